"""Pictures that come with texts: fetched, looked at, kept, deleted there, never trusted."""

from __future__ import annotations

from itertools import count
from urllib.parse import urlencode

import pytest

from channels.email.verdict import CLEAN, Verdict
from channels.sms.twilio import arrival
from channels.twilio import Account, AccountSettings, Webhook
from router import journal
from router.fetching import GIVE_UP
from router.remote_files import LIMIT, collect
from tests.router.store_house import house
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN, served

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
_numbers = count(1)


@pytest.fixture(scope="module")
def twilio():
    with served() as double:
        yield double


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def account(twilio):
    settings = AccountSettings(ACCOUNT_SID, (AUTH_TOKEN,), api_url=twilio.url, timeout=5)
    opened = Account(settings)
    yield opened
    opened.close()


class Scanner:
    """Finds what it is told to find."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.seen: list[bytes] = []

    async def scan(self, content, _envelope, *_):
        self.seen.append(content)
        return self.verdict


def picture(home, twilio, content: bytes | None = PNG, kind: str = "image/png") -> tuple[str, str]:
    """A text with one file; the inquiry, and where the file is said to lie."""
    message = f"MM{next(_numbers):032x}"
    media = twilio.put(f"Messages/{message}/Media")
    path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{message}/Media/{media}"
    if content is not None:
        twilio.files[path] = (kind, content)
    url = twilio.url + path
    return with_url(home, url, message), f"Messages/{message}/Media"


def with_url(home, url: str, message: str = "") -> str:
    message = message or f"MM{next(_numbers):032x}"
    form = {"MessageSid": message, "From": f"+4791{next(_numbers):06d}", "To": "+4759440000"}
    form |= {"Body": "Se her", "NumMedia": "1", "MediaUrl0": url, "MediaContentType0": "image/gif"}
    entry = journal.Entry(arrival(Webhook(form, urlencode(form).encode()), home.clock()))
    number = home.write(lambda session: journal.insert(session.connection(), [entry])[0])[1]
    [taken] = home.take_in(*home.prepared(number))
    return taken.ref


async def fetch(home, account, scanner=None) -> int:
    return await collect(home.db, account, scanner, home.workbench.blobs, home.clock)


def files(home, ref: str) -> list[tuple]:
    return home.rows(
        "SELECT filename, content_type, size FROM attachment"
        " JOIN message ON message.id = attachment.message_id"
        " JOIN inquiry ON inquiry.id = inquiry_id"
        " WHERE ref = :ref",
        ref=ref,
    )


def state(home) -> tuple[str, int, str]:
    [found] = home.rows("SELECT state, attempts, detail FROM remote_file")
    return found


async def test_a_picture_is_fetched_kept_and_deleted_where_it_lay(home, twilio, account):
    ref, where = picture(home, twilio)
    assert files(home, ref) == []
    assert await fetch(home, account) == 2
    [(name, kind, size)] = files(home, ref)
    assert (kind, size) == ("image/png", len(PNG))
    assert name.endswith(".png")
    assert twilio.of(where) == []
    assert state(home)[0] == "deleted"
    assert home.events(ref)[-1] == "file_in"
    assert await fetch(home, account) == 0


async def test_what_a_file_is_the_file_says(home, twilio, account):
    ref, _ = picture(home, twilio, b"<html><script>alert(1)</script>", "image/png")
    await fetch(home, account)
    [(name, kind, _)] = files(home, ref)
    assert kind != "image/png"
    assert not name.endswith(".png")


async def test_a_virus_locks_the_files_and_is_told(home, twilio, account):
    ref, _ = picture(home, twilio)
    scanner = Scanner(Verdict(virus="Eicar"))
    await fetch(home, account, scanner)
    assert scanner.seen == [PNG]
    assert home.rows("SELECT marks FROM message WHERE direction = 'in'") == [('["quarantined"]',)]
    assert home.events(ref)[-2:] == ["file_in", "quarantined"]


@pytest.mark.parametrize(
    ("verdict", "marks"), [(Verdict(unscanned=True), '["unscanned"]'), (CLEAN, "[]")]
)
async def test_a_scanner_that_is_silent_is_said_to_be(home, twilio, account, verdict, marks):
    picture(home, twilio)
    await fetch(home, account, Scanner(verdict))
    assert home.rows("SELECT marks FROM message WHERE direction = 'in'") == [(marks,)]


@pytest.mark.parametrize(
    "url",
    [
        "https://ond.example/virus.exe",
        "http://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1",
        "https://api.twilio.com.ond.example/x",
        "https://kari@api.twilio.com/x",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "nonsense",
        "https://[::1",
    ],
)
async def test_only_the_provider_is_asked_and_never_twice(home, account, url):
    ref = with_url(home, url)
    assert await fetch(home, account) == 1
    assert state(home)[0] == "failed"
    assert home.events(ref)[-1] == "file_lost"
    home.clock.move(days=1)
    assert await fetch(home, account) == 0


async def test_what_is_not_there_yet_is_asked_for_again_and_given_up_in_the_end(
    home, twilio, account
):
    ref, _ = picture(home, twilio, None)
    began, tries = home.clock(), 0
    while state(home)[0] == "announced":
        assert await fetch(home, account) == 1
        assert await fetch(home, account) == 0
        tries += 1
        home.clock.move(hours=1)
    assert home.clock() - began > GIVE_UP
    assert state(home)[:2] == ("failed", tries)
    assert home.events(ref).count("file_lost") == 1


async def test_a_file_without_end_is_cut_off(home, twilio, account):
    ref, _ = picture(home, twilio, b"\0" * (LIMIT + 1))
    await fetch(home, account)
    assert state(home)[0] == "failed"
    assert files(home, ref) == []


async def test_what_cannot_be_deleted_now_is_deleted_later_and_the_file_is_there_once(
    home, twilio, account
):
    ref, where = picture(home, twilio)
    twilio.fail(where, status=503)
    assert await fetch(home, account) == 2
    assert state(home)[:2] == ("fetched", 1)
    assert len(files(home, ref)) == 1
    home.clock.move(minutes=2)
    assert await fetch(home, account) == 1
    assert state(home)[0] == "deleted"
    assert twilio.of(where) == []
    assert len(files(home, ref)) == 1


async def test_what_somebody_else_has_deleted_is_deleted(home, twilio, account):
    ref, where = picture(home, twilio)
    twilio.resources[where].clear()
    await fetch(home, account)
    assert state(home)[0] == "deleted"
    assert len(files(home, ref)) == 1
