"""Mail of a period read again after a parser became better."""

from __future__ import annotations

from datetime import UTC, timedelta

from sqlalchemy import text as sql

from router.reparse import BATCH, Change, reparse
from tests.router.store_house import MONDAY, House, house
from tests.service import TOWN_HALL, mail, unique

WITH_FILE = (
    b"From: Kari <kari@eksempel.no>\r\nTo: " + TOWN_HALL.encode() + b"\r\n"
    b"Subject: Garasje\r\nMessage-ID: <%s@eksempel.no>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=g\r\n\r\n"
    b"--g\r\nContent-Type: text/plain\r\n\r\nSe vedlegg\r\n"
    b"--g\r\nContent-Type: application/pdf; name=plan.pdf\r\n\r\n%%PDF-1.4\r\n--g--\r\n"
)


def letter() -> bytes:
    return WITH_FILE % unique().replace(" ", "").encode()


def again(place: House, apply: bool = False, days: float = 1) -> list[Change]:
    since = MONDAY - timedelta(hours=1)
    until = since + timedelta(days=days)
    return list(reparse(place.write, place.workbench, since, until, place.clock(), apply=apply))


def spoil(place: House, ref: str, **values: object) -> None:
    """What an older parser would have stored."""
    setting = ", ".join(f"{name} = :{name}" for name in values)
    place.write(
        lambda session: session.connection().execute(
            sql(
                f"UPDATE message SET {setting} WHERE inquiry_id ="
                " (SELECT id FROM inquiry WHERE ref = :ref) AND direction = 'in'"
            ),
            {**values, "ref": ref},
        )
    )


def stored(place: House, ref: str) -> tuple[str, str, str]:
    query = (
        "SELECT message.subject, message.text, message.sender_name FROM message JOIN inquiry"
        " ON inquiry.id = inquiry_id WHERE ref = :ref AND direction = 'in'"
    )
    return place.rows(query, ref=ref)[0]  # type: ignore[return-value]


def files(place: House) -> list[tuple[object, ...]]:
    return place.rows("SELECT filename, content_type, size FROM attachment ORDER BY id")


def test_nothing_changes_when_the_parser_is_the_same(tmp_path):
    with house(tmp_path) as place:
        for _ in range(BATCH + 3):
            place.deliver(mail(unique()))
        place.deliver(letter())
        assert again(place) == []
        assert again(place, apply=True) == []


def test_what_would_change_is_told_and_only_written_when_asked(tmp_path):
    with house(tmp_path) as place:
        ref = place.deliver(letter()).ref
        other = place.ask()
        spoil(place, ref, subject="G?rasje", text="Se ", sender_name="")
        place.write(
            lambda s: s.connection().execute(
                sql("UPDATE inquiry SET subject = :s WHERE ref = :r"), {"s": "G?rasje", "r": ref}
            )
        )
        place.write(lambda s: s.connection().execute(sql("DELETE FROM attachment")))

        [change] = again(place)
        assert change.ref == ref
        assert change.fields == {
            "subject": ("G?rasje", "Garasje"),
            "text": ("Se ", "Se vedlegg"),
            "sender_name": ("", "Kari"),
            "attachments": ((), (("plan.pdf", "application/pdf", 8),)),
        }
        assert stored(place, ref) == ("G?rasje", "Se ", "")
        assert "reparsed" not in place.events(ref)

        [change] = again(place, apply=True)
        assert stored(place, ref) == ("Garasje", "Se vedlegg", "Kari")
        assert files(place) == [("plan.pdf", "application/pdf", 8)]
        assert place.inquiry(ref).subject == "Garasje"
        assert place.events(ref)[-1] == "reparsed"
        assert "reparsed" not in place.events(other)
        assert again(place, apply=True) == []


def test_where_it_went_and_when_it_is_due_stay(tmp_path):
    with house(tmp_path) as place:
        ref = place.deliver(letter()).ref
        before = place.inquiry(ref)
        spoil(place, ref, kind="bulk", text="x")
        place.clock.move(hours=5)
        again(place, apply=True)
        after = place.inquiry(ref)
        assert (after.department, after.due_at, after.status) == (
            before.department,
            before.due_at,
            before.status,
        )


def test_only_mail_of_the_period_is_read(tmp_path):
    with house(tmp_path) as place:
        place.clock.move(days=3)
        ref = place.deliver(letter()).ref
        spoil(place, ref, text="x")
        assert again(place) == []
        assert [change.ref for change in again(place, days=7)] == [ref]


def test_a_large_mail_whose_file_is_gone_is_passed_over(tmp_path):
    with house(tmp_path) as place:
        ref = place.deliver(letter()).ref
        spoil(place, ref, text="x")
        place.write(lambda s: s.connection().execute(sql("UPDATE arrival SET blob = 'borte'")))
        assert again(place) == []


def test_the_command_shows_and_writes(run, tmp_path, monkeypatch):
    with house(tmp_path) as place:
        ref = place.deliver(letter()).ref
        spoil(place, ref, text="x")
    monkeypatch.setenv("SENTRALBORD_DATA", str(tmp_path))
    day = f"{MONDAY.astimezone(UTC):%Y-%m-%d}"
    period = ("--since", day, "--until", day)
    assert run("reparse", *period) == 0
    assert "Messages that would change: 1." in run.out
    assert run("reparse", *period, "--apply") == 0
    assert run("reparse", *period) == 0
    assert "Nothing would change." in run.out
