"""Letters that go to the wrong person, to too many, or round and round."""

from __future__ import annotations

from contextlib import suppress

import orjson
import pytest

from channels.base import RawArrival
from channels.web import FormSubmission, arrival
from router import journal
from router.errors import InvalidError
from tests.router.store_house import house as open_house
from tests.service import TOWN_HALL, mail, unique

VICTIM = "kari@eksempel.no"
STRANGER = "fremmed@annen.example"
EXTERNAL = "kundeservice@roaf.example"


def recipients(house, kind: str) -> list[str]:
    return [
        to
        for (to,) in house.rows("SELECT recipient FROM outbox WHERE kind = :k ORDER BY id", k=kind)
    ]


def submit(house, **fields: str) -> str:
    """What the form on the contact page does; the reference."""
    form = FormSubmission(
        **{"key": unique(), "name": "", "email": "", "phone": "", "subject": "", "text": "Hei"}
        | fields
    )
    raw: RawArrival = arrival(form, TOWN_HALL, house.clock())
    _, number = house.write(
        lambda session: journal.insert(session.connection(), [journal.Entry(raw)])[0]
    )
    [taken] = house.take_in(*house.prepared(number))
    return taken.ref


def test_a_forged_sender_with_a_guessed_reference_does_not_get_the_answer(house):
    ref = house.ask("Jeg vil bygge en garasje.", sender=f"Kari <{VICTIM}>")
    forged = mail(f"Mer [{ref}]", "Hva sier dere?", sender=f"Kari <{VICTIM}>", Reply_To=STRANGER)
    house.deliver(forged, mail_from=STRANGER)
    house.reply(house.person(), ref)
    assert recipients(house, "reply") == [VICTIM]


def test_a_mail_that_fails_dmarc_does_not_join_by_a_guessed_reference(house):
    ref = house.ask("Jeg vil bygge en garasje.", sender=f"Kari <{VICTIM}>")
    verdict = "mx.sorum.kommune.no; dmarc=fail header.from=eksempel.no"
    forged = mail(f"Mer [{ref}]", sender=f"Kari <{VICTIM}>", Authentication_Results=verdict)
    assert house.deliver(forged, mail_from=STRANGER).ref != ref


def test_an_answer_never_goes_to_an_address_that_somebody_else_gave_with_the_same_number(house):
    submit(house, email=STRANGER, phone="+4798765432", text="Hva koster det?")
    ref = submit(house, phone="+4798765432", name="Per", text="Jeg trenger hjelp til mat.")
    with suppress(InvalidError):  # refused is fine: there is only a telephone number
        house.reply(house.person(), ref)
    assert STRANGER not in recipients(house, "reply")


def test_an_answer_is_never_sent_to_ourselves(house):
    ref = house.ask("Hei", sender=VICTIM)
    house.deliver(mail(f"Mer [{ref}]", sender=VICTIM, Reply_To=TOWN_HALL), mail_from=VICTIM)
    house.reply(house.person(), ref)
    assert recipients(house, "reply") == [VICTIM]


def test_emergency_letters_to_one_address_are_limited(house):
    for _ in range(15):
        house.deliver(mail(unique(), "Han er bevisstløs!", sender=VICTIM), mail_from=STRANGER)
    assert 1 <= len(recipients(house, "emergency")) <= 10


@pytest.mark.parametrize(
    "spelling",
    ["kari+{}@eksempel.no", "Kari+{}@EKSEMPEL.no.", '"k\\ari+{}"@eksempel.no', "{}"],
    ids=["detail", "case and dot", "quotes", "escapes"],
)
def test_one_mailbox_has_one_count_however_its_address_is_spelled(tmp_path, spelling):
    escapes = ["kari", "\\kari", "k\\ari", "\\k\\ari", "ka\\ri", "kar\\i", "\\kar\\i", "\\kari"]
    with open_house(tmp_path, per_sender_per_day=3) as house:
        for number, local in enumerate(escapes):
            written = f'"{local}"@eksempel.no' if spelling == "{}" else spelling.format(number)
            raw = mail(unique(), sender=VICTIM)
            raw = raw.replace(f"From: {VICTIM}".encode(), f"From: {written}".encode())
            house.deliver(raw, mail_from=STRANGER)
        letters = recipients(house, "receipt")
        assert len(letters) == 3
        if "+" in spelling:  # it goes to the address as written all the same
            assert [to.partition("+")[2][0] for to in letters] == ["0", "1", "2"]
        house.deliver(mail(unique(), sender="ola@eksempel.no"), mail_from=STRANGER)
        assert recipients(house, "receipt")[3:] == ["ola@eksempel.no"]


def test_emergency_letters_in_one_thread_are_limited(house):
    ref = house.ask("Hei", sender=VICTIM)
    svar = house.head.reply_address(house.inquiry(ref).id or 0)
    for number in range(15):
        text = f"Han er bevisstløs! {number}"
        house.deliver(mail("SV", text, sender=VICTIM), svar, mail_from=VICTIM)
    assert 1 <= len(recipients(house, "emergency")) <= 10


def test_a_robot_at_an_external_body_gets_no_letter_for_its_own_receipt(house):
    waste = "Søppelet mitt er ikke hentet, renovasjonsbilen kom ikke."
    house.ask(waste, sender=VICTIM)
    assert recipients(house, "forward") == [EXTERNAL]
    for number in range(5):
        robot = mail(f"Sak {number} opprettet", f"Vi har mottatt: {waste}", sender=EXTERNAL)
        house.deliver(robot, mail_from=EXTERNAL)
    assert recipients(house, "forward") == [EXTERNAL]


def test_letters_to_an_external_body_are_limited(tmp_path):
    with open_house(tmp_path, per_domain_per_hour=5) as house:
        for number in range(20):
            sender = f"x{number}@annen{number}.example"
            text = "Søppelet er ikke hentet."
            house.deliver(mail(unique("Renovasjon"), text, sender=sender), mail_from=sender)
        assert 1 <= len(recipients(house, "forward")) <= 5


def test_a_letter_to_an_external_body_that_bounces_comes_back_to_its_inquiry(house):
    house.ask("Søppelet mitt er ikke hentet, renovasjonsbilen kom ikke.", sender=VICTIM)
    [(payload,)] = house.rows("SELECT payload FROM outbox WHERE kind = 'forward'")
    assert orjson.loads(payload)["return_path"] != ""


def test_the_same_alarm_two_days_later_is_a_contact_of_its_own(house):
    raw = b"From: pumpe@vann.example\r\nTo: %b\r\nSubject: ALARM pumpestasjon 3\r\n\r\nFull.\r\n"
    raw %= TOWN_HALL.encode()
    first = house.deliver(raw, mail_from="pumpe@vann.example")
    house.clock.move(days=2)
    second = house.deliver(raw, mail_from="pumpe@vann.example")
    assert second.outcome == "new"
    assert second.ref != first.ref
