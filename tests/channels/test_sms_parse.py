"""A text as the provider hands it in: what it says, from whom, and what it must not do."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Address, MessageKind, RemoteMedia
from channels.sms.base import Plan
from channels.sms.parse import SUBJECT_LENGTH, fold, parse

OURS = "+4759440000"
SID = "SM" + "1" * 32
PLAN = Plan((OURS,))
SHARED = Plan(("2012",), "SORUM", {"vei": "vei", "vannavlop": "vann-avlop", "kart": "kart"})


def text(body: str = "Hei", plan: Plan = PLAN, **fields: str):
    form = {"MessageSid": SID, "From": "+4790012345", "To": plan.numbers[0], "Body": body, **fields}
    raw = urlencode({k: v for k, v in form.items() if v is not None}).encode()
    return parse(raw, {"provider": "twilio"}, SID, plan)


def test_a_text_is_what_its_sender_wrote_to_our_number():
    found = text("Det er hull i veien\r\nved skolen – og \u00abblåbær\u00bb 🫐")
    assert found.channel == "sms"
    assert found.external_id == SID
    assert found.sender == Address("phone", "+4790012345")
    assert found.recipients == (OURS,)
    assert found.text == "Det er hull i veien\nved skolen – og «blåbær» 🫐"
    assert found.subject == "Det er hull i veien ved skolen – og «blåbær» 🫐"
    assert found.kind is MessageKind.CONTACT
    assert found.receipt_barred == ""
    assert found.remote == ()


def test_a_long_text_goes_by_its_beginning_cut_between_words():
    found = text("Dette er en ganske lang henvendelse som ingen leser i en liste " * 5)
    assert len(found.subject) <= SUBJECT_LENGTH + 1
    assert found.subject == "Dette er en ganske lang henvendelse som ingen leser i en…"
    assert text("x" * 200).subject == "x" * SUBJECT_LENGTH + "…"


@pytest.mark.parametrize(
    ("sender", "said", "barred"),
    [
        ("Posten", "Posten", "text sender"),
        ("DNB\u202e ASA", "DNB\u202e ASA", "text sender"),
        ("2012", "2012", "short number"),
        ("+2012", "+2012", "short number"),
        ("26112", "26112", "short number"),
        ("anonymous", "anonymous", "text sender"),
        ("whatsapp:+4790012345", "whatsapp:+4790012345", "text sender"),
        ("", "", "no sender address"),
        ("   ", "", "no sender address"),
        ("x" * 500, "x" * 40, "text sender"),
    ],
)
def test_who_has_no_number_is_nobody_and_gets_no_answer(sender, said, barred):
    found = text(From=sender)
    assert found.sender is None
    assert found.sender_said == said
    assert found.receipt_barred == barred


@pytest.mark.parametrize(
    ("sender", "barred"),
    [
        ("+4763864000", "not a mobile number"),
        ("+4722334455", "not a mobile number"),
        (OURS, "sent by ourselves"),
        ("+4790012345", ""),
        ("+4741234567", ""),
        ("+46701234567", ""),
        ("+14155552345", ""),
    ],
)
def test_only_a_mobile_that_is_not_ours_gets_an_answer(sender, barred):
    found = text(From=sender)
    assert found.sender == Address("phone", sender)
    assert found.receipt_barred == barred


@pytest.mark.parametrize(
    "word", ["STOP", "stop", "Stopp", " stopp! ", "SLUTT.", "Avslutt", "unsubscribe", "QUIT", "End"]
)
def test_a_lone_word_of_farewell_opts_out(word):
    assert text(word).kind is MessageKind.OPT_OUT


@pytest.mark.parametrize("word", ["START", "unstop", "Start!"])
def test_start_opts_in(word):
    found = text(word)
    assert (found.kind, found.may_text) == (MessageKind.OPT_IN, True)


@pytest.mark.parametrize("word", ["JA", "Ja.", "yes"])
def test_yes_is_an_answer_and_opts_in_only_who_was_out(word):
    found = text(word)
    assert (found.kind, found.may_text) == (MessageKind.CONTACT, True)


@pytest.mark.parametrize(
    "body",
    [
        "Stopp bilen!",
        "Kan dere stoppe dette?",
        "Når er det slutt?",
        "stop nå",
        "",
        "Jaha",
        "S T O P!?x",
    ],
)
def test_words_within_a_sentence_mean_what_the_sentence_means(body):
    found = text(body)
    assert (found.kind, found.may_text) == (MessageKind.CONTACT, False)


@pytest.mark.parametrize(
    ("body", "rest", "department"),
    [
        ("SORUM VEI hull ved skolen", "VEI hull ved skolen", "vei"),
        ("sørum vei: hull", "vei: hull", "vei"),
        ("Sørum, hull i veien", "hull i veien", ""),
        ("SORUM", "", ""),
        ("SORUM   Vann-avløp\nlekkasje", "Vann-avløp\nlekkasje", "vann-avlop"),
        ("Hei SORUM VEI", "Hei SORUM VEI", ""),
        ("SORUMVEI hull", "SORUMVEI hull", ""),
        ("vei hull", "vei hull", ""),
    ],
)
def test_on_a_shared_number_the_keyword_is_ours_and_the_next_word_may_name_a_department(
    body, rest, department
):
    found = text(body, SHARED)
    assert (found.text, found.department) == (rest, department)
    assert found.recipients == ("2012",)


def test_the_keyword_hides_no_farewell():
    assert text("SORUM STOPP", SHARED).kind is MessageKind.OPT_OUT


def test_without_a_keyword_the_first_word_is_a_word():
    assert text("VEI hull").department == ""


def test_pictures_are_remembered_and_not_fetched():
    found = text(
        "",
        NumMedia="2",
        MediaUrl0="https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1",
        MediaContentType0="image/jpeg",
        MediaUrl1="https://api.twilio.com/x",
    )
    assert found.text == found.subject == ""
    assert found.remote == (
        RemoteMedia(
            "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1", "image/jpeg"
        ),
        RemoteMedia("https://api.twilio.com/x", ""),
    )


def test_what_the_provider_adds_or_leaves_out_changes_nothing():
    plain = text("Hei")
    odd = text("Hei", FromCity="", NumMedia="many", Zz="\ud7ff", ApiVersion="2030", NumSegments="x")
    assert odd == plain
    for name in ("From", "To", "Body", "MessageSid"):
        form = {"MessageSid": SID, "From": "+4790012345", "To": OURS, "Body": "Hei"}
        del form[name]
        parse(urlencode(form).encode(), {"provider": "twilio"}, SID, PLAN)
    parse(b"", {"provider": "twilio"}, SID, PLAN)
    first = parse(b"Body=a&Body=b&From=%2B4790012345", {"provider": "twilio"}, SID, PLAN)
    assert first.text == "a"
    json = parse(
        '{"Body":"Blåbær","From":"+4790012345"}'.encode(), {"provider": "twilio"}, SID, PLAN
    )
    assert (json.text, json.sender) == ("Blåbær", Address("phone", "+4790012345"))


def test_unicode_is_tidied_at_the_door():
    found = text("Bla\u030abær\u00a0\x00\x1b[31m\u200b\tso\ufeff")
    assert found.text == "Blåbær [31m so"


@given(st.binary(max_size=400))
def test_no_bytes_whatever_break_the_reader(raw):
    found = parse(
        b"From=%2B4790012345&To=" + OURS.encode() + b"&Body=" + raw,
        {"provider": "twilio"},
        SID,
        SHARED,
    )
    assert "\x00" not in found.text
    found.text.encode("utf-8")


@pytest.mark.parametrize(
    ("word", "folded"), [("Vann-Avløp", "vannavlop"), ("ÆRLIG", "aerlig"), ("Čáhci", "cahci")]
)
def test_a_word_is_folded_as_people_write_it_on_a_telephone(word, folded):
    assert fold(word) == folded
