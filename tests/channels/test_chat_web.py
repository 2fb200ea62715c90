"""What a browser may send to the chat, and the first message as an arrival."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Address, Mark, RejectedError
from channels.chat import web

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PNG = {"filename": "a.png", "content_type": "image/png", "size": 1, "sha256": "0" * 64}


def said(text="Hei", **more):
    return web.ChatMessage(str(uuid.uuid4()), text, **more)


def again(message, conversation="abc", **more):
    arrival = web.arrival(conversation, message, NOW, **more)
    return web.parse(arrival.raw, arrival.envelope, arrival.external_id)


def test_a_message_comes_back_as_it_was_written():
    message = said("Hei!\r\nEr dere der?", name=" Kari  N. ", language="nn", phone="900 00 001")
    incoming = again(message)
    assert incoming.text == "Hei!\nEr dere der?"
    assert incoming.subject == "Hei!"
    assert incoming.language == "nn"
    assert incoming.sender == incoming.phone == Address("phone", "+4790000001", "Kari N.")
    assert incoming.external_id == f"abc:{message.client_id}"
    assert web.conversation_of(incoming.external_id) == "abc"
    assert again(said(email="kari@example.no", phone="900 00 001")).sender == Address(
        "email", "kari@example.no"
    )
    assert again(said()).sender is None


def test_files_and_what_is_known_of_them_travel_in_the_envelope():
    arrival = web.arrival("abc", said(""), NOW, [PNG], [Mark.UNSCANNED])
    assert arrival.envelope == {"files": [PNG], "marks": ["unscanned"]}
    assert again(said(""), files=[PNG], marks=[Mark.UNSCANNED]).marks == (Mark.UNSCANNED,)


@pytest.mark.parametrize(
    ("value", "ok"),
    [
        ("6fa459ea-ee8a-3ca4-894e-db77e160355e", True),
        ("6FA459EA-EE8A-3CA4-894E-DB77E160355E", True),
        ("{6fa459ea-ee8a-3ca4-894e-db77e160355e}", False),
        ("6fa459eaee8a3ca4894edb77e160355e", False),
        ("urn:uuid:6fa459ea-ee8a-3ca4-894e-db77", False),
        ("", False),
        ("x" * 36, False),
    ],
)
def test_the_id_of_a_message_is_a_uuid(value, ok):
    assert bool(web.client_id(value)) is ok
    assert web.client_id(value) in {"", value.lower()}


@pytest.mark.parametrize(
    ("message", "kinds", "problems"),
    [
        (said("x" * 4000), [], {}),
        (said("x" * 4001), [], {"text": "too_long"}),
        (said("\u0000 \n"), [], {"text": "missing"}),
        (said(""), ["image/png"], {}),
        (said(), ["image/png"] * 4, {"files": "too_many"}),
        (said(), ["image/svg+xml"], {"files": "not_allowed"}),
        (web.ChatMessage("1", "Hei"), [], {"client_msg_id": "invalid"}),
    ],
)
def test_what_is_taken(message, kinds, problems):
    assert web.check(message, kinds) == problems
    if problems and not kinds:
        with pytest.raises(RejectedError):
            web.arrival("abc", message, NOW)


@pytest.mark.parametrize(
    ("text", "headline"),
    [
        ("Hei", "Hei"),
        ("\n\n  Hei  der \nmer", "Hei der"),
        ("", ""),
        ("ord " * 40, ("ord " * 19).strip() + "…"),
        ("x" * 100, "x" * 79 + "…"),
        ("Jeg lurer på noe, " * 10, None),
    ],
)
def test_the_beginning_stands_where_others_have_a_subject(text, headline):
    made = web.headline(text)
    assert len(made) <= web.SUBJECT_LENGTH
    assert headline is None or made == headline


@given(st.text(max_size=200))
def test_whatever_is_typed_is_read(text):
    message = said(text)
    if "text" in web.check(message):
        return
    incoming = again(message)
    assert incoming.text == incoming.text.strip() != ""
    assert "\x00" not in incoming.text
    incoming.text.encode()
