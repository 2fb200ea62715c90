"""What looks like a delivery report and is none changes nothing of what we sent."""

from __future__ import annotations

import pytest

from router.models import InquiryStatus
from tests.router.test_threads_robots import bounce, letters
from tests.service import mail

ELSEWHERE = "postmottak@sorum.kommune.no"


@pytest.fixture
def answered(house):
    """A closed inquiry with our reply out: its reference and the letter."""
    ref = house.ask()
    house.reply(house.person(), ref, close=True)
    house.write(
        lambda session: session.connection().exec_driver_sql("UPDATE outbox SET state = 'sent'")
    )
    [letter] = letters(house)
    return ref, letter


def check_unchanged(house, answered, taken):
    ref, _letter = answered
    inquiry = house.inquiry(ref)
    assert (inquiry.status, inquiry.reply_state.value) == (InquiryStatus.CLOSED, "answered")
    assert house.rows("SELECT DISTINCT state FROM outbox") == [("sent",)]
    assert house.count("SELECT count(*) FROM message WHERE delivery = 'failed'") == 0
    assert "not_delivered" not in house.events(ref) + house.events(taken.ref)
    # Nothing is dropped, and nobody waits for an answer to it.
    assert house.rows("SELECT kind FROM message ORDER BY id DESC LIMIT 1") == [("bounce",)]
    if taken.ref != ref:
        assert house.inquiry(taken.ref).status is InquiryStatus.ASIDE
    else:
        assert house.events(ref)[-1] == "automatic_in"


@pytest.mark.parametrize("sender", ["fremmed@annen.example", "MAILER-DAEMON@mx.example"])
@pytest.mark.parametrize("at_return_path", [True, False])
def test_a_report_from_somebody(house, answered, sender, at_return_path):
    """RFC 3464 §2: reports have the null sender."""
    letter = answered[1]
    to = letter.return_path if at_return_path else ELSEWHERE
    taken = house.deliver(bounce(letter), to, mail_from=sender)
    check_unchanged(house, answered, taken)


def test_a_report_that_only_answers_our_message(house, answered):
    """In-Reply-To and References stand in every mail that our letter was quoted in."""
    letter = answered[1]
    forged = bounce(
        letter,
        with_copy=False,
        References=letter.message_id,
        **{"In-Reply-To": letter.message_id},
    )
    check_unchanged(house, answered, house.deliver(forged, ELSEWHERE, mail_from=""))


def test_a_report_in_the_name_of_the_one_who_asked(house, answered):
    letter = answered[1]
    forged = bounce(
        letter, with_copy=False, From=letter.to.value, **{"In-Reply-To": letter.message_id}
    )
    check_unchanged(house, answered, house.deliver(forged, ELSEWHERE, mail_from=""))


@pytest.mark.parametrize("at_return_path", [True, False])
def test_a_report_about_somebody_else(house, answered, at_return_path):
    letter = answered[1]
    to = letter.return_path if at_return_path else ELSEWHERE
    taken = house.deliver(bounce(letter, to="ola@annen.example"), to, mail_from="")
    check_unchanged(house, answered, taken)


def test_a_report_about_nobody_that_names_our_message(house, answered):
    letter = answered[1]
    check_unchanged(house, answered, house.deliver(bounce(letter, to=""), ELSEWHERE, mail_from=""))


def test_a_report_to_a_return_path_that_was_made_up(house, answered):
    letter = answered[1]
    number, _, mac = letter.return_path.partition("-")
    forged = f"{number}-{mac[::-1].rpartition('@')[2][:16].rjust(16, 'a')}@sorum.kommune.no"
    taken = house.deliver(bounce(letter, with_copy=False), forged, mail_from="")
    check_unchanged(house, answered, taken)


def test_words_of_a_daemon_in_a_mail_from_a_person(house, answered):
    letter = answered[1]
    text = f"{letter.to.value}: 550 5.1.1 User unknown\n\nMessage-ID: {letter.message_id}\n"
    forged = mail("Undelivered Mail", text, sender="MAILER-DAEMON@mx.example")
    taken = house.deliver(forged, ELSEWHERE, mail_from="fremmed@annen.example")
    check_unchanged(house, answered, taken)
