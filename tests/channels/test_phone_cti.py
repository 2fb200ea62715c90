"""What exchanges send, as the bridges in use write it, becomes the three things that can happen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import RejectedError
from channels.numbers import dialled
from channels.phone import cti
from channels.phone.base import CallDirection, CallKind, is_number

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
CALL = {
    "event": "newCall",
    "from": "4741234567",
    "to": "4763869000",
    "direction": "in",
    "callId": "307fa962-de8d-4ffc-817b-7f6993204159",
}


def told(fields, content_type="application/json"):
    body = json.dumps(fields).encode() if "json" in content_type else urlencode(fields).encode()
    return cti.events(cti.read(content_type, body), NOW)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("newCall", CallKind.RINGING),
        ("answer", CallKind.ANSWERED),
        ("hangup", CallKind.ENDED),
    ],
)
def test_the_three_events_by_json_and_by_form(content_type, name, kind):
    [event] = told({**CALL, "event": name}, content_type)
    assert event.kind is kind
    assert event.call_id == CALL["callId"]
    assert event.direction is CallDirection.IN
    assert (event.caller, event.line) == ("+4741234567", "+4763869000")
    assert event.at == NOW


def test_of_an_outgoing_call_the_party_outside_is_who_was_called():
    [event] = told({**CALL, "direction": "out", "from": "4763869000", "to": "41234567"})
    assert event.direction is CallDirection.OUT
    assert (event.caller, event.line) == ("+4741234567", "+4763869000")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("4763864000", "+4763864000"),
        ("63864000", "+4763864000"),
        ("63 86 40 00", "+4763864000"),
        ("+4763864000", "+4763864000"),
        (" 4763864000", "+4763864000"),
        ("004763864000", "+4763864000"),
        ("46701234567", "+46701234567"),
        ("0046701234567", "+46701234567"),
        ("493055571600", "+493055571600"),
        ("47123456", "+4747123456"),
        ("06040", "+4706040"),
        ("sip:+4741234567@exchange.example", "+4741234567"),
        ("tel:41234567", "+4741234567"),
        ("anonymous", "anonymous"),
        ("101", "101"),
        ("", ""),
    ],
)
def test_numbers_as_exchanges_write_them(written, number):
    [event] = told({**CALL, "from": written})
    assert event.caller == number
    assert is_number(event.caller) == number.startswith("+")


def test_a_plus_that_was_not_escaped_in_a_form_is_a_plus():
    body = b"event=newCall&from=+4741234567&to=+4763869000&direction=in&callId=a1"
    [event] = cti.events(cti.read("application/x-www-form-urlencoded", body), NOW)
    assert (event.caller, event.line) == ("+4741234567", "+4763869000")


@pytest.mark.parametrize("name", ["callId", "call_id"])
def test_both_names_of_the_id(name):
    fields = {**CALL, name: "x-1"}
    if name != "callId":
        del fields["callId"]
    assert told(fields)[0].call_id == "x-1"


def test_an_id_that_is_a_number_is_text():
    assert told({**CALL, "callId": 123456789})[0].call_id == "123456789"


@pytest.mark.parametrize(
    ("given_as", "names"),
    [
        ({"user": "Kari Nordmann"}, ("Kari Nordmann",)),
        ({"user": ["Kari Nordmann", "Ola Hansen"]}, ("Kari Nordmann", "Ola Hansen")),
        ({"user[]": ["Kari Nordmann", "Ola Hansen"]}, ("Kari Nordmann", "Ola Hansen")),
        ({"user": "[Kari Nordmann, Ola Hansen]"}, ("Kari Nordmann", "Ola Hansen")),
        ({"user": ""}, ()),
        ({"user": None}, ()),
        ({}, ()),
    ],
)
def test_users_as_text_and_as_list(given_as, names):
    assert told({**CALL, **given_as})[0].users == names


def test_users_of_a_form_with_the_key_repeated():
    body = urlencode([*CALL.items(), ("user[]", "Kari Nordmann"), ("user[]", "Åse Ødegård")])
    [event] = cti.events(cti.read("application/x-www-form-urlencoded", body.encode()), NOW)
    assert event.users == ("Kari Nordmann", "Åse Ødegård")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_from_old_exchanges_are_readable(encoding):
    form = f"{urlencode(CALL)}&user={quote('Åse', encoding=encoding)}".encode()
    assert cti.events(cti.read("application/x-www-form-urlencoded", form), NOW)[0].users == ("Åse",)
    as_json = json.dumps({**CALL, "user": "Åse"}, ensure_ascii=False).encode(encoding)
    assert cti.events(cti.read("application/json", as_json), NOW)[0].users == ("Åse",)


@pytest.mark.parametrize(
    ("cause", "kept"),
    [
        ("normalClearing", "normalClearing"),
        ("noAnswer", "noAnswer"),
        ("NO_ANSWER", "noAnswer"),
        ("ORIGINATOR_CANCEL", "cancel"),
        ("USER_BUSY", "busy"),
        ("voicemail", "voicemail"),
        ("MediaTimeout 7", "MediaTimeout 7"),
        ("", ""),
    ],
)
def test_causes_of_other_exchanges_and_odd_ones(cause, kept):
    assert told({**CALL, "event": "hangup", "cause": cause})[0].cause == kept


def test_the_answering_number_is_a_number_or_a_login():
    answer = {**CALL, "event": "answer"}
    assert told({**answer, "answeringNumber": "63869201"})[0].answering == "+4763869201"
    assert told({**answer, "answeringNumber": "kari"})[0].answering == "kari"
    assert told({**answer, "answeringNumber": "kari@sorum.example"})[0].answering == (
        "kari@sorum.example"
    )


def test_placetel_says_the_direction_by_the_event_and_the_answer_by_the_hangup():
    call = {"from": "022129191999", "to": "022199998560", "call_id": "f4591ba315d81671"}
    form = "application/x-www-form-urlencoded"
    [ringing] = told({**call, "event": "IncomingCall"}, form)
    assert (ringing.kind, ringing.direction) == (CallKind.RINGING, CallDirection.IN)
    [answer] = told({**call, "event": "CallAccepted", "peer": "7777abcdefg@fpbx.example"}, form)
    assert (answer.kind, answer.answering) == (CallKind.ANSWERED, "7777abcdefg@fpbx.example")
    [missed] = told({**call, "event": "HungUp", "type": "missed"}, form)
    assert (missed.kind, missed.cause) == (CallKind.ENDED, "noAnswer")
    both = told({**call, "event": "HungUp", "type": "accepted"}, form)
    assert [event.kind for event in both] == [CallKind.ANSWERED, CallKind.ENDED]
    [outgoing] = told({**call, "event": "OutgoingCall"}, form)
    assert outgoing.direction is CallDirection.OUT


def test_what_is_not_ours_to_know_tells_nothing():
    assert told({**CALL, "event": "dtmf", "dtmf": "1"}) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"direction": "sideways"},
        {"direction": ""},
        {"callId": ""},
        {"callId": "x" * 251},
        {"callId": ["", None]},
        {"event": ""},
    ],
)
def test_what_the_exchange_must_mend_is_refused_with_a_sentence(fault):
    with pytest.raises(RejectedError, match="must"):
        told({**CALL, **fault})


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"newCall"', b"\xff{}"])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(RejectedError):
        cti.read("application/json", body)


def test_a_form_of_thousands_of_fields_is_refused():
    with pytest.raises(RejectedError):
        cti.read("application/x-www-form-urlencoded", b"a=1&" * 5000)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from([*CALL, "user", "user[]", "cause", "queue", "answeringNumber", "type"]),
        _ANY,
    )
)
def test_whatever_an_exchange_sends_is_an_event_or_a_refusal(fields):
    try:
        for event in told({**CALL, **fields}):
            assert event.call_id
            for text in (event.caller, event.line, event.queue, event.cause, *event.users):
                assert text == " ".join(text.split())
                assert len(text) <= 200
    except RejectedError:
        pass


@given(st.text(max_size=60))
def test_a_dialled_number_is_e164_or_nothing(text):
    number = dialled(text)
    assert number == "" or (number[0] == "+" and number[1:].isdecimal())
    assert dialled(number) in {number, ""}
