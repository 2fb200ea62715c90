"""What no person wrote: aside without a thread, quiet inside one; and bounces of what we sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from sqlmodel import select

from channels.base import MessageKind, SenderCheck
from channels.email.compose import compose
from channels.fake import FakeChannel
from router import deadlines, queue
from router.errors import ConflictError
from router.models import InquiryStatus, OutboxItem, Role
from router.outbox import outgoing_of
from router.queue import Filter
from router.reparse import reparse
from router.sending import Outbox
from router.tokens import Signer
from tests.router.store_house import house
from tests.service import mail, unique

BULK = {"List_Id": "<nytt.firma.example>", "List_Unsubscribe": "<https://firma.example/av>"}
ROBOT = {"Auto_Submitted": "auto-replied"}


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def operator(home):
    return home.person()


def letters(home, kind="reply"):
    with home.db.read() as session:
        items = session.exec(
            select(OutboxItem).where(OutboxItem.kind == kind).order_by(OutboxItem.id)
        ).all()
        return [outgoing_of(item, home.settings.blobs) for item in items]


def listed(home, actor, status):
    with home.db.read() as session:
        return [row.ref for row in queue.page(session, actor, Filter(status=status)).rows]


def bounce(
    letter,
    status="5.1.1",
    said="550 5.1.1 User unknown",
    *,
    with_copy=True,
    to=None,
    original="",
    words="Sorry.",
    **headers,
):
    """A delivery report as a mail server writes it (RFC 3464)."""
    to = letter.to.value if to is None else to
    about = f"Original-Recipient: rfc822; {original}\r\n" if original else ""
    about += f"Final-Recipient: rfc822; {to}\r\n" if to else ""
    copy = compose(letter, "x").partition(b"\r\n\r\n")[0] if with_copy else b"Subject: x"
    fields = {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example>",
        "Subject": "Undelivered Mail Returned to Sender",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return (
        (
            f"{head}Message-ID: <{unique()[4:]}@mx.example>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
            f"--b\r\n\r\n{words}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
            "Reporting-MTA: dns; mx.example\r\n\r\n"
            f"{about}Action: failed\r\nStatus: {status}\r\n"
            f"Diagnostic-Code: smtp; {said}\r\n"
            "\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        ).encode()
        + copy
        + b"\r\n--b--\r\n"
    )


@pytest.mark.parametrize(
    ("headers", "sent_by", "reason"),
    [
        (BULK, "nytt@firma.example", "bulk"),
        (ROBOT, "", "auto_reply"),
        ({"Subject": "Undelivered Mail Returned to Sender"}, "", "bounce"),
    ],
)
def test_without_a_thread_it_lies_aside(home, operator, headers, sent_by, reason):
    headers = dict(headers)
    raw = mail(headers.pop("Subject", unique()), sender="nytt@firma.example", **headers)
    taken = home.deliver(raw, mail_from=sent_by)
    inquiry = home.inquiry(taken.ref)
    assert inquiry.status is InquiryStatus.ASIDE
    assert home.events(taken.ref) == ["received", "routed", "set_aside"]
    assert home.rows(
        "SELECT json_extract(data, '$.reason') FROM event WHERE kind = 'set_aside'"
    ) == [(reason,)]
    assert home.count("SELECT count(*) FROM outbox") == 0
    assert home.count("SELECT count(*) FROM counter WHERE name LIKE 'open:%' AND value <> 0") == 0
    assert listed(home, operator, "") == listed(home, operator, "open") == []
    assert listed(home, operator, "aside") == [taken.ref]


def test_what_lies_aside_has_no_clock_until_a_person_moves_it_to_the_queue(home, operator):
    taken = home.deliver(mail(unique(), sender="nytt@firma.example", **BULK))
    due = home.inquiry(taken.ref).due_at
    home.clock.move(days=30)
    assert home.write(lambda session: deadlines.mark_overdue(session, home.clock())) == 0
    with pytest.raises(ConflictError, match="aside"):
        home.write(lambda session: queue.claim(session, operator, taken.ref, home.clock()))
    with pytest.raises(ConflictError, match="aside"):
        home.reply(operator, taken.ref)
    home.write(lambda session: queue.reopen(session, operator, taken.ref, home.clock()))
    inquiry = home.inquiry(taken.ref)
    assert (inquiry.status, inquiry.due_at) == (InquiryStatus.OPEN, due)
    assert listed(home, operator, "open") == [taken.ref]
    assert home.write(lambda session: deadlines.mark_overdue(session, home.clock())) == 1
    assert home.count("SELECT count(*) FROM outbox") == 0
    assert home.count("SELECT sum(value) FROM counter WHERE name LIKE 'open:%'") == 1


def test_the_list_of_what_lies_aside_pages_latest_first(home, operator):
    refs = []
    for _ in range(5):
        home.clock.move(minutes=1)
        refs.append(home.deliver(mail(unique(), sender="nytt@firma.example", **BULK)).ref)
    assert paged(home, operator, Filter(status="aside")) == refs[::-1]


def test_a_person_who_writes_into_an_aside_thread_brings_it_to_the_queue(home, operator):
    taken = home.deliver(mail(unique(), sender="nytt@firma.example", **BULK))
    due = home.inquiry(taken.ref).due_at
    home.clock.move(days=1)
    to = home.head.reply_address(taken.inquiry_id)
    home.deliver(mail("Hei igjen", sender="nytt@firma.example", to=to), to)
    inquiry = home.inquiry(taken.ref)
    assert (inquiry.status, inquiry.due_at) == (InquiryStatus.OPEN, due)
    assert home.events(taken.ref)[-2:] == ["reopened", "message_in"]
    assert home.count("SELECT sum(value) FROM counter WHERE name LIKE 'open:%'") == 1


def test_a_call_for_help_is_never_hidden_by_a_spam_filter(home, operator):
    number = home.journal(mail(unique(), "Det brenner i leiligheten min, hjelp!"))
    [item] = home.prepared(number)
    spam = replace(item, incoming=replace(item.incoming, kind=MessageKind.SPAM))
    [taken] = home.take_in(spam)
    assert home.inquiry(taken.ref).status is InquiryStatus.OPEN
    assert "emergency" in home.events(taken.ref)


def test_an_out_of_office_reply_changes_nothing(home, operator):
    ref = home.ask()
    home.reply(operator, ref, close=True)
    [letter] = letters(home)
    before = home.inquiry(ref)
    home.clock.move(hours=1)
    raw = mail(f"Automatisk svar: {unique()}", "Ferie!", to=letter.reply_to, **ROBOT)
    taken = home.deliver(raw, letter.reply_to, mail_from="")
    assert taken.ref == ref
    after = home.inquiry(ref)
    assert after == before
    assert home.events(ref)[-1] == "automatic_in"
    assert "message_in" not in home.events(ref)


def test_an_out_of_office_reply_before_the_answer_stops_no_clock(home, operator):
    ref = home.ask()
    [receipt] = letters(home, "receipt")
    before = home.inquiry(ref)
    raw = mail("Automatisk svar", to=receipt.reply_to, **ROBOT)
    home.deliver(raw, receipt.reply_to, mail_from="")
    assert home.inquiry(ref) == before
    assert before.answered_at is None


def test_spam_that_carries_our_token_is_a_person(home, operator):
    """The filter is wrong about somebody who answers us."""
    ref = home.ask()
    home.reply(operator, ref, close=True)
    [letter] = letters(home)
    number = home.journal(mail("SV", to=letter.reply_to), letter.reply_to)
    [item] = home.prepared(number)
    home.take_in(replace(item, incoming=replace(item.incoming, kind=MessageKind.SPAM)))
    assert home.inquiry(ref).status is InquiryStatus.OPEN
    assert "reopened" in home.events(ref)


@pytest.mark.parametrize(
    ("to", "options"),
    [
        ("return path", {}),
        ("return path", {"with_copy": False}),
        ("return path", {"to": ""}),
        ("return path", {"to": "kari@annet.example", "original": "Kari+x@Eksempel.no"}),
        ("return path", {"to": "kari@annet.example", "words": "for <kari@eksempel.no>"}),
        ("somewhere", {}),
    ],
    ids=[
        "verp", "verp without a copy", "verp without a recipient", "forwarded", "in words",
        "by the copy's Message-ID",
    ],
)  # fmt: skip
def test_a_bounce_of_our_reply_reopens_the_inquiry(home, operator, to, options):
    ref = home.ask()
    home.reply(operator, ref, close=True)
    [letter] = letters(home)
    target = letter.return_path if to == "return path" else "postmottak@sorum.kommune.no"
    due = home.inquiry(ref).due_at
    taken = home.deliver(bounce(letter, **options), target, mail_from="")
    assert taken.ref == ref
    inquiry = home.inquiry(ref)
    assert inquiry.status is InquiryStatus.OPEN
    assert inquiry.reply_state.value == "not_delivered"
    assert inquiry.answered_at is None
    assert inquiry.due_at == due
    assert home.events(ref)[-2:] == ["not_delivered", "automatic_in"]
    [(delivery, detail)] = home.rows(
        "SELECT delivery, delivery_detail FROM message WHERE kind = 'reply'"
    )
    assert delivery == "failed"
    assert detail == "5.1.1 550 5.1.1 User unknown"
    assert home.count("SELECT sum(value) FROM counter WHERE name LIKE 'open:%'") == 1


def test_a_bounce_that_comes_twice_is_one_failure(home, operator):
    ref = home.ask()
    home.reply(operator, ref)
    [letter] = letters(home)
    home.deliver(bounce(letter), letter.return_path, mail_from="")
    home.reply(operator, ref, "Vi prøver igjen.")
    home.deliver(bounce(letter), letter.return_path, mail_from="")
    assert home.inquiry(ref).reply_state.value == "answered"
    assert home.events(ref).count("not_delivered") == 1
    assert home.events(ref)[-1] == "automatic_in"


def test_a_bounce_of_a_forward_needs_its_own_return_path(home, operator):
    """Whoever got a receipt has the reply address."""
    taken = home.deliver(mail(unique(), "Dunken er ikke tømt."), "renovasjon@sorum.kommune.no")
    [forward] = letters(home, "forward")
    [receipt] = letters(home, "receipt")
    forged = bounce(forward, with_copy=False)
    home.deliver(forged, receipt.reply_to, mail_from="")
    assert home.inquiry(taken.ref).reply_state.value == "unanswered"
    assert home.events(taken.ref)[-1] == "automatic_in"
    home.deliver(bounce(forward, with_copy=False), forward.return_path, mail_from="")
    assert home.inquiry(taken.ref).reply_state.value == "not_delivered"


def test_a_bounce_of_a_receipt_is_noted_and_changes_no_clock(home, operator):
    ref = home.ask()
    [receipt] = letters(home, "receipt")
    before = home.inquiry(ref)
    home.deliver(bounce(receipt), mail_from="")
    assert home.inquiry(ref) == before
    assert home.events(ref)[-1] == "automatic_in"
    [(state, detail)] = home.rows("SELECT state, detail FROM outbox WHERE kind = 'receipt'")
    assert state == "failed"
    assert "User unknown" in detail


def test_a_delay_notice_is_no_failure(home, operator):
    ref = home.ask()
    home.reply(operator, ref, close=True)
    [letter] = letters(home)
    raw = bounce(letter, "4.4.1", "timed out").replace(b"Action: failed", b"Action: delayed")
    before = home.inquiry(ref)
    home.deliver(raw, letter.return_path, mail_from="")
    assert home.inquiry(ref) == before
    assert home.count("SELECT count(*) FROM message WHERE delivery = 'failed'") == 0


def test_a_bounce_of_a_message_that_was_never_ours_lies_aside(home, operator):
    ref = home.ask()
    home.reply(operator, ref)
    [letter] = letters(home)
    local, _, domain = letter.message_id.strip("<>").partition("@")
    number, _, _mac = local.partition("-")
    forged = replace(letter, message_id=f"<{number}-{'a' * 16}.0123456789abcdef@{domain}>")
    taken = home.deliver(bounce(forged), mail_from="")
    assert taken.ref != ref
    assert home.inquiry(taken.ref).status is InquiryStatus.ASIDE
    assert home.inquiry(ref).reply_state.value == "answered"


def test_one_mail_to_two_departments_is_seen_by_both(home, operator):
    taken = home.deliver(
        mail(unique(), to="skole@sorum.kommune.no, barnehage@sorum.kommune.no"),
        "skole@sorum.kommune.no", "barnehage@sorum.kommune.no",
    )  # fmt: skip
    check_shared(home, taken)


def test_a_mail_delivered_once_for_each_department_is_seen_by_both(home, operator):
    raw = mail(unique(), to="skole@sorum.kommune.no, barnehage@sorum.kommune.no")
    taken = home.deliver(raw, "skole@sorum.kommune.no")
    again = home.deliver(raw, "barnehage@sorum.kommune.no")
    assert (again.ref, again.outcome) == (taken.ref, "duplicate")
    assert home.count("SELECT count(*) FROM inquiry") == 1
    check_shared(home, taken)


def check_shared(home, taken):
    other = "barnehage" if taken.department == "skole" else "skole"
    mine, beside, stranger = (
        home.person(name, Role.MEMBER, name) for name in (taken.department, other, "vei")
    )
    home.ask("Hull i veien.", subject=unique("Hull"))
    assert listed(home, mine, "") == listed(home, beside, "open") == [taken.ref]
    assert taken.ref not in listed(home, stranger, "")
    assert "addressee_added" in home.events(taken.ref)
    [(told,)] = home.rows("SELECT department FROM event WHERE kind = 'addressee_added'")
    assert told == other
    with home.db.read() as session:
        assert queue.row(session, beside, taken.ref).department == taken.department
        assert queue.page(session, beside, Filter(department=other)).rows[0].ref == taken.ref
    # Whoever of them is first takes it.
    home.write(lambda session: queue.claim(session, beside, taken.ref, home.clock()))
    with pytest.raises(ConflictError):
        home.write(lambda session: queue.claim(session, mine, taken.ref, home.clock()))
    # Once a person has sent it elsewhere, that decides.
    home.write(lambda session: queue.transfer(session, beside, taken.ref, "vei", "", home.clock()))
    assert listed(home, beside, "") == listed(home, mine, "") == []
    assert taken.ref in listed(home, stranger, "")


SKOLE = "skole@sorum.kommune.no"


def in_copy(home, ref):
    """An answer to our reply, and to a school as well: the mail and the reply address."""
    [letter] = [one for one in letters(home) if one.reply_to == reply_address(home, ref)][-1:]
    raw = mail(unique("SV"), "Takk, og skolen bør vite det.", to=f"{letter.reply_to}, {SKOLE}")
    return raw, letter.reply_to


def reply_address(home, ref):
    return home.head.reply_address(home.inquiry(ref).id)


def open_now(home):
    return home.count("SELECT sum(value) FROM counter WHERE name LIKE 'open:%'")


@pytest.fixture
def answered(home, operator):
    ref = home.ask()
    home.reply(operator, ref, close=True)
    return ref


def test_an_answer_that_came_to_another_address_first_is_found_in_its_thread(
    home, operator, answered
):
    raw, svar = in_copy(home, answered)
    stray = home.deliver(raw, SKOLE)
    assert stray.outcome == "new"
    taken = home.deliver(raw, svar)
    assert (taken.ref, taken.outcome) == (answered, "joined")
    # The thread waits for an answer now, by a clock of its own.
    inquiry = home.inquiry(answered)
    assert (inquiry.status, inquiry.answered_at) == (InquiryStatus.OPEN, None)
    assert home.events(answered)[-4:] == ["reopened", "message_in", "addressee_added", "duplicate"]
    [(recipients,)] = home.rows(
        "SELECT recipients FROM message WHERE inquiry_id = :i AND direction = 'in'"
        " ORDER BY id DESC LIMIT 1",
        i=inquiry.id,
    )
    assert orjson.loads(recipients) == [SKOLE, "svar@sorum.kommune.no"]
    # What it had begun is closed; each names the other.
    assert home.inquiry(stray.ref).status is InquiryStatus.CLOSED
    assert home.events(stray.ref)[-2:] == ["duplicate", "closed"]
    assert home.rows(
        "SELECT json_extract(data, '$.ref'), json_extract(data, '$.other') FROM event"
        " WHERE kind = 'duplicate' ORDER BY 1"
    ) == sorted([(answered, stray.ref), (stray.ref, answered)])
    assert open_now(home) == 1
    # The school sees the thread.
    assert listed(home, home.person("rektor", Role.MEMBER, "skole"), "open") == [answered]


def test_what_is_delivered_after_that_is_nothing_new(home, operator, answered):
    raw, svar = in_copy(home, answered)
    home.deliver(raw, SKOLE)
    home.deliver(raw, svar)
    before = home.count("SELECT count(*) FROM message")
    again = home.deliver(raw, "vei@sorum.kommune.no")
    assert (again.ref, again.outcome) == (answered, "duplicate")
    both = home.deliver(raw, svar, SKOLE)
    assert (both.ref, both.outcome) == (answered, "duplicate")
    assert home.count("SELECT count(*) FROM message") == before
    assert home.events(answered).count("duplicate") == 1


@pytest.mark.parametrize("order", [1, -1], ids=["thread last", "thread first"])
def test_in_one_batch_the_thread_comes_first(home, operator, answered, order):
    raw, svar = in_copy(home, answered)
    numbers = [home.journal(raw, SKOLE), home.journal(raw, svar)][::order]
    taken = home.take_in(*home.prepared(*numbers))
    assert {one.ref for one in taken} == {answered}
    assert sorted(one.outcome for one in taken) == ["duplicate", "joined"]
    assert home.count("SELECT count(*) FROM inquiry") == 1
    assert home.count("SELECT count(*) FROM outbox WHERE kind = 'receipt'") == 1
    assert "addressee_added" in home.events(answered)


@pytest.mark.parametrize("touch", ["claim", "note", "reply", "emergency"])
def test_what_somebody_has_worked_with_stays_as_it_is(home, operator, answered, touch):
    raw, svar = in_copy(home, answered)
    if touch == "emergency":
        raw = raw.replace(b"Takk, og skolen", b"Det brenner i leiligheten! Skolen")
    stray = home.deliver(raw, SKOLE)
    if touch == "claim":
        home.write(lambda session: queue.claim(session, operator, stray.ref, home.clock()))
    elif touch == "note":
        home.write(lambda session: queue.note(session, operator, stray.ref, "Hm", home.clock()))
    elif touch == "reply":
        home.reply(operator, stray.ref)
    taken = home.deliver(raw, svar)
    assert (taken.ref, taken.outcome) == (answered, "joined")
    assert home.inquiry(stray.ref).status is InquiryStatus.OPEN
    assert home.events(stray.ref)[-1] == "duplicate"
    assert open_now(home) == 2


def test_a_made_up_token_moves_nothing(home, operator, answered):
    raw, svar = in_copy(home, answered)
    stray = home.deliver(raw, SKOLE)
    number = svar.partition("+")[2].partition("-")[0]
    taken = home.deliver(raw, f"svar+{number}-{'a' * 16}@sorum.kommune.no")
    assert (taken.ref, taken.outcome) == (stray.ref, "duplicate")
    assert home.inquiry(answered).status is InquiryStatus.CLOSED


def test_one_address_shares_nothing_wherever_the_rules_send_it(home, operator):
    taken = home.deliver(
        mail(unique(), "Det er et hull i veien ved skolen.", to="skole@sorum.kommune.no"),
        "skole@sorum.kommune.no",
    )
    home.deliver(mail(unique(), "Det er et hull i veien."))
    assert taken.ref
    assert home.count("SELECT count(*) FROM addressee") == 0


def test_the_shared_list_pages_with_the_own(home, operator):
    refs = []
    for number in range(6):
        home.clock.move(minutes=1)
        to = ["barnehage@sorum.kommune.no"]
        if number % 2:
            to.append("skole@sorum.kommune.no")
        refs.append(home.deliver(mail(unique(), to=", ".join(to)), *to).ref)
    for slugs in (["barnehage"], ["skole"], ["skole", "barnehage"]):
        actor = home.person("-".join(slugs), Role.MEMBER, *slugs)
        expected = refs if "barnehage" in slugs else refs[1::2]
        assert paged(home, actor, Filter()) == expected
    for ref in refs:
        home.clock.move(minutes=1)
        home.write(lambda session, ref=ref: queue.close(session, operator, ref, home.clock()))
    assert paged(home, actor, Filter()) == refs[::-1]
    skole = home.person("to", Role.MEMBER, "skole")
    assert paged(home, skole, Filter(status="closed")) == refs[1::2][::-1]


def paged(home, actor, wanted):
    """All references of a list, two at a time."""
    found, after = [], None
    while True:
        with home.db.read() as session:
            page = queue.page(session, actor, wanted, after, 2)
        found += [row.ref for row in page.rows]
        after = page.next
        if after is None:
            return found


def test_keys_may_be_changed_while_letters_are_out(home, operator):
    """The old key is still accepted; the new one signs."""
    ref = home.ask()
    home.reply(operator, ref)
    [letter] = letters(home)
    home.head = replace(home.head, signer=Signer((b"new", b"test")))
    home.deliver(mail("SV", to=letter.reply_to), letter.reply_to)
    assert home.events(ref)[-1] == "message_in"
    home.reply(operator, ref, "Én ting til.")
    newest = letters(home)[-1]
    assert newest.reply_to != letter.reply_to
    home.head = replace(home.head, signer=Signer((b"new",)))
    assert home.deliver(mail("SV", to=letter.reply_to), letter.reply_to).ref != ref
    assert home.deliver(mail("SV", to=newest.reply_to), newest.reply_to.upper()).ref == ref


def test_a_disowned_sender_joins_only_by_the_token(home, operator):
    ref = home.ask()
    home.reply(operator, ref)
    [letter] = letters(home)
    quoting = mail("SV: Hei", In_Reply_To=letter.message_id)
    [item] = home.prepared(home.journal(quoting))
    failed = replace(item, incoming=replace(item.incoming, sender_check=SenderCheck.FAILED))
    [taken] = home.take_in(failed)
    assert taken.ref != ref
    assert home.inquiry(taken.ref).hint_id == home.inquiry(ref).id
    [item] = home.prepared(home.journal(mail(f"Mer om [{ref}]")))
    failed = replace(item, incoming=replace(item.incoming, sender_check=SenderCheck.FAILED))
    assert home.take_in(failed)[0].ref != ref
    [item] = home.prepared(home.journal(mail("SV: Hei du"), letter.reply_to))
    failed = replace(item, incoming=replace(item.incoming, sender_check=SenderCheck.FAILED))
    assert home.take_in(failed)[0].ref == ref


def test_a_forward_joins_only_when_it_is_sent_to_the_reply_address(home, operator):
    ref = home.ask()
    home.reply(operator, ref)
    [letter] = letters(home)
    for prefix in ("VS:", "Fwd:", "WG:", "[Ekstern] VS:", "Videresendt:"):
        subject = f"{prefix} {unique()}"
        alone = home.deliver(mail(subject, In_Reply_To=letter.message_id))
        assert alone.ref != ref, prefix
        assert home.inquiry(alone.ref).hint_id == home.inquiry(ref).id
        sent = home.deliver(mail(f"{prefix} {unique()}", to=letter.reply_to), letter.reply_to)
        assert sent.ref == ref, prefix
    answered = home.deliver(mail(f"SV: VS: {unique()}", In_Reply_To=letter.message_id))
    assert answered.ref == ref


def test_spam_stays_spam_when_old_mail_is_read_again(home, operator):
    """The scanner's verdict came with the mail and is asked for once."""
    [item] = home.prepared(home.journal(mail(unique())))
    home.take_in(replace(item, incoming=replace(item.incoming, kind=MessageKind.SPAM)))
    home.deliver(mail(unique()))
    day = home.clock()
    changes = reparse(home.write, home.workbench, day - timedelta(1), day + timedelta(1), day)
    assert list(changes) == []


async def test_a_bounce_that_is_quicker_than_our_own_note_of_the_sending_stands(home, operator):
    ref = home.ask()
    home.reply(operator, ref, close=True)

    class Boomerang(FakeChannel):
        async def send(self, outgoing):
            receipt = await super().send(outgoing)
            if outgoing.return_path:
                home.deliver(bounce(outgoing), outgoing.return_path, mail_from="")
            return receipt

    sender = Outbox(home.db, {"email": Boomerang("email")}, home.settings.blobs, home.clock)
    assert await sender.deliver_due() == 2
    inquiry = home.inquiry(ref)
    assert inquiry.reply_state.value == "not_delivered"
    assert inquiry.status is InquiryStatus.OPEN
    assert home.rows("SELECT delivery FROM message WHERE kind = 'reply'") == [("failed",)]
    assert "delivered" not in home.events(ref)[-2:]
