"""Texts in the store: threads, receipts, replies, and the wish to have no more of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from itertools import count as counting
from urllib.parse import urlencode

import pytest

from channels.sms.segments import count
from channels.sms.twilio import arrival
from channels.twilio import Webhook
from router import consent, journal, letters, passing, replies, texting
from router.errors import InvalidError
from router.preparing import KeptFile
from router.routing import text_plan
from router.sections import Receipts
from tests.router.store_house import house

KARI, OLA, LANDLINE = "+4790012345", "+4741234567", "+4763864000"
OURS, OTHER = "+4759440000", "+4759440001"
_numbers = counting(1)


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        opened.head = replace(opened.head, text_numbers=(OURS, OTHER))
        yield opened


def journaled(home, body: str, sender: str = KARI, to: str = OURS, sid: str = "", **more) -> int:
    sid = sid or f"SM{next(_numbers):032x}"
    form = {"MessageSid": sid, "From": sender, "To": to, "Body": body, **more}
    entry = journal.Entry(arrival(Webhook(form, urlencode(form).encode()), home.clock()))
    return home.write(lambda session: journal.insert(session.connection(), [entry])[0])[1]


def text(home, body: str = "Kan noen ringe meg?", *args, **options):
    """A text on its whole way in."""
    home.clock.move(seconds=1)
    [taken] = home.take_in(*home.prepared(journaled(home, body, *args, **options)))
    return taken


def letters_of(home, ref: str) -> list[tuple[str, str, str, str]]:
    """Kind, recipient, our number, text of what waits to go out."""
    rows = home.rows(
        "SELECT o.channel, o.kind, o.recipient, o.payload FROM outbox o"
        " JOIN inquiry i ON i.id = o.inquiry_id WHERE i.ref = :ref ORDER BY o.id",
        ref=ref,
    )
    return [
        (kind, to, payload["sender"]["value"], payload["text"])
        for channel, kind, to, found in rows
        for payload in [json.loads(found)]
        if channel == "sms"
    ]


def opted_out(home, number: str = KARI) -> datetime | None:
    with home.db.read() as session:
        return consent.withdrawn_at(session, number)


def test_a_text_is_an_inquiry_with_a_receipt_of_one_part(home):
    ref = text(home, "Når åpner biblioteket i jula?").ref
    inquiry = home.inquiry(ref)
    assert (inquiry.channel, inquiry.line, inquiry.sender_address) == ("sms", OURS, KARI)
    assert inquiry.department == "bibliotek"
    assert inquiry.subject == "Når åpner biblioteket i jula?"
    [(kind, to, sender, words)] = letters_of(home, ref)
    assert (kind, to, sender) == ("receipt", KARI, OURS)
    assert ref in words
    assert "26. november" in words
    assert "bibliotek" not in words.lower()
    assert count(words).parts == 1


@pytest.mark.parametrize("language", ["nb", "nn", "en"])
@pytest.mark.parametrize("name", [n for n in letters.TEXTS["nb"] if n.startswith("text_")])
def test_every_text_fits_its_parts_in_every_language(home, language, name):
    worst = letters.moment_in_words(
        datetime.fromisoformat("2026-09-30T15:45:00+00:00"), home.head.zone, language
    )
    departments = [d.name.get(language) for d in home.settings.departments.values()]
    department = max(departments, key=len) if "external" in name or "referred" in name else ""
    words = letters.write(
        language,
        name,
        ref="S-2026-123456",
        due=worst,
        department=department,
        municipality=home.head.municipality,
    )
    assert count(words).encoding == "gsm7"
    assert count(words).parts <= (2 if department else 1), words


def test_what_follows_joins_the_open_inquiry_and_gets_no_second_receipt(home):
    first = text(home, "Hei, jeg har et spørsmål")
    second = text(home, "Det gjelder barnehage")
    assert (second.outcome, second.ref) == ("joined", first.ref)
    assert len(letters_of(home, first.ref)) == 1
    assert home.events(first.ref)[-1] == "message_in"


def test_two_texts_at_the_same_moment_are_one_inquiry(home):
    numbers = [journaled(home, body) for body in ("Hei, jeg", "lurer på noe", "Takk")]
    numbers.append(journaled(home, "Jeg også", OLA))
    taken = home.take_in(*home.prepared(*numbers))
    assert sorted(t.outcome for t in taken) == ["joined", "joined", "new", "new"]
    assert len({t.ref for t in taken}) == 2


def test_another_person_or_another_number_of_ours_is_another_matter(home):
    refs = {text(home).ref, text(home, sender=OLA).ref, text(home, to=OTHER).ref}
    assert len(refs) == 3


def test_after_closing_a_text_is_a_new_inquiry_that_hints_at_the_old(home):
    actor, first = home.person(), text(home)
    home.reply(actor, first.ref, close=True)
    second = text(home, "Takk, men det var ikke det jeg spurte om.")
    assert second.outcome == "new"
    assert home.inquiry(second.ref).hint_id == home.inquiry(first.ref).id
    third = text(home, "Hallo?")
    assert third.ref == second.ref


def test_the_newest_open_one_is_meant(home):
    actor = home.person()
    first = text(home)
    home.reply(actor, first.ref, close=True)
    second = text(home)
    home.write(lambda s: replies.queue.reopen(s, actor, first.ref, home.clock()))
    assert text(home, "Og så en ting til").ref == second.ref


def test_an_answer_to_our_text_finds_the_inquiry_whatever_line_it_came_by(home):
    """Who rang, and was answered by text, answers to the number that the text came from."""
    actor, ref = home.person(), text(home).ref
    home.write(
        lambda s: s.connection().exec_driver_sql(
            "UPDATE inquiry SET channel = 'phone', line = '+4763869000'"
        )
    )
    assert text(home).ref != ref
    home.write(lambda s: s.connection().exec_driver_sql("DELETE FROM outbox"))
    home.reply(actor, ref)
    [(_, to, sender, _)] = letters_of(home, ref)
    assert (to, sender) == (KARI, OURS)
    newest = home.rows("SELECT ref FROM inquiry ORDER BY id DESC LIMIT 1")[0][0]
    home.reply(actor, newest, close=True)
    assert text(home, "Ja, det passer").ref == ref


def test_texts_are_rung_back_by_nobody_but_answered_by_text(home):
    actor, ref = home.person(), text(home, to=OTHER).ref
    home.reply(actor, ref, "Vi kommer – kl.\u00a012. «Hilsen»")
    *_, (kind, to, sender, words) = letters_of(home, ref)
    assert (kind, to, sender) == ("reply", KARI, OTHER)
    assert words == 'Vi kommer - kl. 12. "Hilsen"\n\nHilsen Servicetorget, Sørum kommune'
    [(stored, recipients)] = home.rows(
        "SELECT text, recipients FROM message WHERE direction = 'out'"
    )
    assert stored == 'Vi kommer - kl. 12. "Hilsen"'
    assert KARI in recipients
    assert home.inquiry(ref).reply_state == "answered"


@pytest.mark.parametrize(
    "words",
    [
        "Vi kommer i morgen.",
        " Vi kommer – kl.\u00a012. «Hilsen»  ",
        "Sámi giella đ – «a»",
        "x" * 140,
        "Kom \ufeff ",
        "😕" * 40,
    ],
)
def test_what_is_told_while_writing_is_what_is_sent(home, words):
    actor, ref = home.person(), text(home).ref
    end = texting.reply_end(home.head, home.inquiry(ref))
    told = texting.measured(words, end)
    home.reply(actor, ref, words)
    sent = letters_of(home, ref)[-1][-1]
    assert sent.endswith(end)
    found = count(sent)
    assert (told.characters, told.parts, told.left) == (len(sent), found.parts, found.left)
    assert told.encoding == found.encoding


@pytest.mark.parametrize(
    ("words", "odd"),
    [
        ("Vi kommer – «snart»…", ""),
        ("– Čáhcesuolu", "Č"),
        ("Takk 👍🏽!", "👍🏽"),
        ("e\u0323\u0304n", "ẹ̄"),
        ("a\u200db", "U+200D"),
        ("€ [ok] ^", ""),
    ],
)
def test_the_character_that_makes_parts_small_is_named(words, odd):
    assert texting.measured(words, "\n\nHilsen Vei").odd_one == odd


def refused(home, ref: str, words: str = "Vi kommer.", **options) -> str:
    actor = home.person()
    with pytest.raises(InvalidError) as told:
        home.reply(actor, ref, words, **options)
    return str(told.value)


def test_a_reply_that_no_text_can_hold_is_refused_with_the_reason(home):
    ref = text(home).ref
    assert "1600" in refused(home, ref, "x" * 1600)


def test_files_do_not_go_by_text(home):
    ref = text(home).ref
    file = KeptFile("a.pdf", "application/pdf", 1, "0" * 64, "", inline=False)
    assert "e-mail" in refused(home, ref, files=[file])


@pytest.mark.parametrize("sender", [LANDLINE, "Posten", "2012", ""])
def test_landlines_text_senders_and_short_numbers_are_never_texted(home, sender):
    ref = text(home, "Alarm fra pumpestasjon", sender).ref
    assert letters_of(home, ref) == []
    told = refused(home, ref)
    assert "e-mail" in told if sender == LANDLINE else "no number" in told
    inquiry = home.inquiry(ref)
    assert inquiry.sender_name == ("" if sender == LANDLINE else sender)
    assert inquiry.status == "open"


def test_those_without_a_number_are_never_one_person(home):
    first, second = text(home, "Pakken er her", "Posten"), text(home, "Pakken er her", "Posten")
    assert first.ref != second.ref
    contacts = {home.inquiry(r.ref).contact_id for r in (first, second)}
    assert contacts == {None}


def test_where_texts_are_not_in_use_nothing_is_promised(home):
    home.head = replace(home.head, text_numbers=())
    ref = text(home).ref
    assert letters_of(home, ref) == []
    assert "not in use" in refused(home, ref)


def test_stop_is_kept_to_without_a_receipt_and_start_undoes_it(home):
    ref = text(home).ref
    stopped = text(home, "STOPP")
    assert (stopped.outcome, stopped.ref) == ("joined", ref)
    assert opted_out(home)
    inquiry = home.inquiry(ref)
    assert inquiry.reply_state == "unanswered"
    assert home.events(ref)[-2:] == ["automatic_in", "opted_out"]
    assert "asked for no more texts" in refused(home, ref)
    text(home, "START")
    assert opted_out(home) is None
    assert home.events(ref)[-1] == "opted_in"
    home.reply(home.person("hansen"), ref)
    assert [kind for kind, *_ in letters_of(home, ref)] == ["receipt", "reply"]


def test_stop_out_of_the_blue_lies_aside(home):
    ref = text(home, "Stop").ref
    assert home.inquiry(ref).status == "aside"
    assert letters_of(home, ref) == []
    assert opted_out(home)
    assert home.events(ref)[-1] == "opted_out"


def test_stop_twice_is_once(home):
    text(home, "STOPP")
    at = opted_out(home)
    ref = text(home, "STOPP").ref
    assert opted_out(home) == at
    assert "opted_out" not in home.events(ref)


def test_who_wants_no_texts_gets_no_receipt_but_is_heard(home):
    text(home, "STOPP")
    ref = text(home, "Når åpner biblioteket?").ref
    assert letters_of(home, ref) == []
    assert home.inquiry(ref).status == "open"
    assert "receipt_withheld" in home.events(ref)


def test_yes_means_texts_again_only_from_who_wanted_none(home):
    ref = text(home, "Ja").ref
    assert "opted_in" not in home.events(ref)
    text(home, "STOPP", OLA)
    ref = text(home, "Ja", OLA).ref
    assert opted_out(home, OLA) is None
    assert "opted_in" in home.events(ref)
    assert [kind for kind, *_ in letters_of(home, ref)] == ["receipt"]


def test_an_opted_out_contact_with_a_known_address_is_written_to(home):
    ref = text(home).ref
    text(home, "STOPP")
    contact = home.inquiry(ref).contact_id
    home.write(
        lambda s: s.connection().exec_driver_sql(
            "INSERT INTO address (contact_id, channel, value, name, created_at)"
            f" VALUES ({contact}, 'email', 'kari@eksempel.no', '', '2026-11-23 08:00:00.000000')"
        )
    )
    home.reply(home.person(), ref)
    assert home.rows("SELECT channel, recipient FROM outbox WHERE kind = 'reply'") == [
        ("email", "kari@eksempel.no")
    ]


def test_an_emergency_is_answered_at_once_with_the_numbers_and_alarms(home):
    ref = text(home, "Mannen min puster ikke!").ref
    inquiry = home.inquiry(ref)
    assert inquiry.emergency
    assert "emergency" in home.events(ref)
    [(kind, to, _, words)] = letters_of(home, ref)
    assert (kind, to) == ("emergency", KARI)
    assert all(number in words for number in ("110", "112", "113", "116117"))
    assert count(words).parts == 1


def test_an_emergency_in_the_middle_of_a_thread_is_answered_too_whatever_was_wished_before(home):
    ref = text(home).ref
    text(home, "STOPP")
    text(home, "Det brenner i huset vårt!")
    assert [kind for kind, *_ in letters_of(home, ref)] == ["receipt", "emergency"]
    assert home.inquiry(ref).emergency


def test_an_emergency_from_a_text_sender_alarms_and_is_not_answered(home):
    ref = text(home, "Det brenner i garasjen", "Alarmsentral").ref
    assert home.inquiry(ref).emergency
    assert letters_of(home, ref) == []


def test_receipts_by_text_have_a_brake_of_their_own(home):
    home.head = replace(
        home.head, per_sender_per_day=0, text_receipts=Receipts(per_sender_per_day=2)
    )
    actor, refs = home.person(), []
    for _ in range(3):
        refs.append(text(home).ref)
        home.reply(actor, refs[-1], close=True)
    kinds = [[kind for kind, *_ in letters_of(home, ref)] for ref in refs]
    assert kinds == [["receipt", "reply"], ["receipt", "reply"], ["reply"]]
    assert "receipt_withheld" in home.events(refs[-1])
    # Mail has its own count, here of none.
    assert "receipt_withheld" in home.events(home.ask())


def test_a_named_department_gets_it_unless_something_more_important_is_said(home):
    settings = home.settings.model_copy(
        update={
            "channels": home.settings.channels.model_copy(
                update={
                    "sms": home.settings.channels.sms.model_copy(
                        update={"keyword": "SORUM", "numbers": ("2012",)}
                    )
                }
            )
        }
    )
    home.workbench = replace(home.workbench, texts=text_plan(settings))
    home.head = replace(home.head, text_numbers=("2012",))
    ref = text(home, "SORUM kart jeg vil kjøpe tomt", to="2012").ref
    assert home.inquiry(ref).department == "kart-oppmaling"
    [(reason,)] = home.rows(
        "SELECT reason FROM decision JOIN inquiry ON inquiry.id = inquiry_id WHERE ref = :ref",
        ref=ref,
    )
    assert reason == "table"
    assert [sender for _, _, sender, _ in letters_of(home, ref)] == ["2012"]
    alarm = text(home, "SORUM KART det brenner i huset", sender=OLA, to="2012").ref
    assert home.inquiry(alarm).department == "servicetorg"
    plain = text(home, "SORUM hei", sender="+4740000001", to="2012").ref
    assert home.inquiry(plain).department == "servicetorg"


def test_the_same_text_again_after_a_year_is_the_same_text(home):
    sid = "SM" + "f" * 32
    first = journaled(home, "Hei", sid=sid)
    home.take_in(*home.prepared(first))
    home.clock.move(days=400)
    assert journaled(home, "Hei", sid=sid) == first
    assert home.count("SELECT count(*) FROM arrival") == 1


def test_an_external_body_answers_and_the_sender_is_told_by_text(home):
    ref = text(home, "Når tømmer dere søppeldunken min?").ref
    assert home.inquiry(ref).department == "renovasjon"
    [(_, _, _, words)] = letters_of(home, ref)
    assert "ROAF" in words
    [(recipient,)] = home.rows("SELECT recipient FROM outbox WHERE channel = 'email'")
    assert recipient == "kundeservice@roaf.example"
    other = text(home, sender=OLA).ref
    actor = home.person()
    home.write(
        lambda s: passing.transfer(s, home.head, actor, other, "renovasjon", "", home.clock())
    )
    assert "ROAF" in letters_of(home, other)[-1][3]
