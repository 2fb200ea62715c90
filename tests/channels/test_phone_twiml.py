"""What callers hear: every document fits Twilio's own grammar, and is what it should be."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from xml.etree import ElementTree

import pytest

from channels.phone import phrases, spoken, twiml
from channels.phone.base import At, Ring, Said, Step
from channels.phone.twiml import Facts, Site, Voice
from tests import twiml_grammar

SITE = Site("https://henvendelse.sorum.kommune.no/sentralbord")
FACTS = Facts(12, "+4790012345", "+4763869000")
HIDDEN = Facts(12, "anonymous", "+4763869000")
KARI = Ring("kari", "+4763869201")
NOTHING_SAID = Step(At.DIAL, 3, ring=(KARI,))
GREETING = Said("greeting", {"municipality": "Sørum & <Fet> kommune"})

STEPS = [
    NOTHING_SAID,
    Step(At.DIAL, 3, (GREETING,), ring=tuple(Ring(f"u{n}", f"+476386920{n}") for n in range(10))),
    Step(At.DIAL, 3, (Said("connecting_number"),), ring=(Ring("", "113"),)),
    Step(At.MENU, 3, (GREETING,), choices=("colleague", "callback", "voicemail")),
    Step(At.MENU, 3, choices=("voicemail",)),
    Step(At.QUEUE, 3, (GREETING,)),
    Step(At.TALK, 3, (Said("taken"),)),
    Step(At.VOICEMAIL, 3, (Said("crisis"), Said("voicemail"))),
    Step(At.END, 3, (Said("goodbye"),)),
    Step(At.END, 3),
]
VOICES = [
    Voice(),
    Voice(
        music="https://sorum.example/vent.mp3",
        phrases={"greeting": "https://sorum.example/hei.wav", "crisis": "Vannet må kokes."},
    ),
]


def verbs(document: str) -> list[str]:
    return [verb.tag for verb in ElementTree.fromstring(document)]


@pytest.mark.parametrize("voice", VOICES, ids=["ours", "own"])
def test_every_document_fits_the_grammar(voice):
    site = Site(SITE.url, voice)
    for step, facts in product(STEPS, (FACTS, HIDDEN)):
        twiml_grammar.check(twiml.render(step, facts, site))
        assert Step.from_json(step.as_json()) == step
    queue = STEPS[5]
    for position, seconds, first, facts in product(
        (1, 7, 120), (None, 30, 240, 9000), (True, False), (FACTS, HIDDEN)
    ):
        twiml_grammar.check(twiml.wait(queue, facts, site, position, seconds, first=first), "wait")
    for document in (twiml.leave(), twiml.pause()):
        twiml_grammar.check(document, "wait")
    twiml_grammar.check(twiml.hold(site), "hold")
    twiml_grammar.check(twiml.whisper(NOTHING_SAID, FACTS, site, "kari", "Kari"), "whisper")
    for document in (twiml.trouble(site), twiml.nothing(), twiml.hang_up()):
        twiml_grammar.check(document)


@pytest.mark.parametrize(
    ("document", "context", "fault"),
    [
        ("<Dail/>", "call", "Dail in Response"),
        ('<Say voise="alice">hei</Say>', "call", "Say has no voise"),
        ('<Say language="nn-NO">hei</Say>', "call", "Say language=nn-NO"),
        ('<Pause length="to"/>', "call", "Pause length=to"),
        ('<Record action="https://a.example/"/>', "call", "Record without recordingStatusCallback"),
        (
            "<Redirect>/hooks/phone</Redirect>",
            "call",
            "Redirect to /hooks/phone, which is not absolute",
        ),
        ("<Hangup/><Say>hei</Say>", "call", "Say after Hangup is never reached"),
        (
            '<Say>hei</Say><Dial action="https://a.example/" answerOnBridge="true"/>',
            "call",
            "answerOnBridge works only where Dial is the first verb",
        ),
        (
            '<Record action="https://a.example/" recordingStatusCallback="https://a.example/"/>',
            "wait",
            "Record while waiting (wait)",
        ),
        (
            '<Gather action="https://a.example/" numDigits="1"/>',
            "hold",
            "Gather while waiting (hold)",
        ),
        (
            '<Gather action="https://a.example/" numDigits="1" input="dtmf keys"/>',
            "call",
            "Gather input=dtmf keys",
        ),
        (
            '<Gather action="https://a.example/" numDigits="1"><Hangup/></Gather>',
            "call",
            "Hangup in Gather",
        ),
    ],
)
def test_the_grammar_finds_what_is_planted(document, context, fault):
    assert twiml_grammar.faults(f"<Response>{document}</Response>", context) == [fault]


def test_a_person_is_rung_before_the_call_costs_anything():
    """Nothing is said first, so the caller hears it ring, and the call is answered by a person."""
    document = twiml.render(NOTHING_SAID, FACTS, SITE)
    [dial] = ElementTree.fromstring(document)
    assert dial.get("answerOnBridge") == "true"
    assert dial.get("callerId") == "+4790012345"
    assert dial[0].text == "+4763869201"
    assert dial[0].get("url") == (
        "https://henvendelse.sorum.kommune.no/sentralbord/hooks/phone/twilio/whisper?c=12&n=3&u=kari"
    )
    [dial] = ElementTree.fromstring(twiml.render(NOTHING_SAID, HIDDEN, SITE))
    assert dial.get("callerId") == "+4763869000"


def test_who_hides_the_number_is_offered_no_call_back():
    queue = Step(At.QUEUE, 1)
    assert verbs(twiml.wait(queue, FACTS, SITE, 2, None, first=True)) == ["Gather"]
    assert verbs(twiml.wait(queue, HIDDEN, SITE, 2, None, first=True)) == ["Say", "Pause"]


def test_the_keys_of_a_menu_are_numbered_as_they_are_offered():
    menu = Step(At.MENU, 1, choices=("callback", "voicemail"))
    gather, redirect = ElementTree.fromstring(twiml.render(menu, FACTS, SITE))
    assert [say.text for say in gather] == [
        "Tast én hvis du vil at vi ringer deg opp.",
        "Tast to for å legge igjen en beskjed.",
    ]
    assert redirect.text == gather.get("action")


@pytest.mark.parametrize(
    ("local", "words"),
    [
        ((2026, 11, 23, 14, 0), "klokken fjorten"),
        ((2026, 11, 23, 8, 5), "klokken åtte null fem"),
        ((2026, 11, 23, 15, 45), "klokken femten førtifem"),
        ((2026, 11, 23, 0, 0), "ved midnatt"),
        ((2026, 11, 24, 8, 0), "i morgen klokken åtte"),
        ((2026, 11, 27, 12, 30), "fredag klokken tolv tretti"),
        ((2026, 12, 1, 9, 0), "tirsdag den første desember klokken ni"),
        ((2027, 5, 31, 21, 21), "mandag den trettiførste mai klokken tjueen tjueen"),
    ],
)
def test_a_moment_is_said_as_people_say_it(local, words):
    from zoneinfo import ZoneInfo

    oslo = ZoneInfo("Europe/Oslo")
    at = datetime(*local, tzinfo=oslo).astimezone(UTC)
    now = datetime(2026, 11, 23, 7, 0, tzinfo=oslo).astimezone(UTC)
    assert spoken.moment(at, now, "Europe/Oslo") == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "under ett minutt"),
        (59, "under ett minutt"),
        (61, "omtrent ett minutt"),
        (240, "omtrent fire minutter"),
        (3599, "over en time"),
    ],
)
def test_a_wait_is_told_roughly(seconds, words):
    assert spoken.minutes(seconds) == words


def test_every_number_up_to_a_hundred_has_its_word():
    words = [spoken.number(value) for value in range(100)]
    assert len(set(words)) == 100
    assert words[21] == "tjueen"
    assert spoken.number(100) == "100"


@pytest.mark.parametrize(
    ("key", "words", "fault"),
    [
        ("greeting", "Hei, {municipality} her.", ""),
        ("greeting", "https://sorum.example/hei.wav", ""),
        ("greeting", "http://sorum.example/hei.wav", "not https"),
        ("greeting", "Hei, {kommune} her.", "blanks"),
        ("greeting", "Hei, {municipality.__class__} her.", "blanks"),
        ("greeting", "Hei {", "braces"),
        ("velkomst", "Hei", "unknown"),
    ],
)
def test_other_words_are_taken_only_where_they_can_be_said(key, words, fault):
    assert phrases.fault_of(key, words) == fault
