"""Webhooks at the web: who is believed, what strangers get, and what is left of them: nothing."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from sqlmodel import select
from twilio.request_validator import RequestValidator

from channels.fake import FakeChannel
from channels.twilio import Account, AccountSettings
from router import journal
from router.metrics import HOOKS
from router.models import Arrival
from router.web import hooks
from router.web.limits import HOOK
from tests.router.web_house import house

SID = "AC" + "0" * 32
TOKEN = "e4ad3f7c5d9b4a1f8c2b6d0e7a9f3c5d"
PUBLIC = "https://henvendelse.sorum.kommune.no"
OURS = "+4759440000"


def text(number: int = 1, **fields: str) -> dict[str, str]:
    return {
        "MessageSid": f"SM{number:032x}",
        "AccountSid": SID,
        "From": "+4790012345",
        "To": OURS,
        "Body": "Det er hull i veien ved skolen.",
        "NumMedia": "0",
        **fields,
    }


def sign(form, path: str = hooks.SMS, token: str = TOKEN, public: str = PUBLIC) -> dict[str, str]:
    signature = RequestValidator(token).compute_signature(f"{public}{path}", form)
    return {
        "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
        "x-twilio-signature": signature,
    }


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path, PUBLIC) as opened:
        opened.hall.twilio = Account(AccountSettings(SID, (TOKEN,)))
        opened.hall.channels["sms"] = FakeChannel("sms")
        yield opened


async def post(home, form, *, path: str = hooks.SMS, headers=None):
    given = sign(form, path) if headers is None else headers
    return await home.client.post(path, content=urlencode(form), headers=given)


def arrivals(home) -> list[Arrival]:
    with home.hall.db.read() as session:
        return list(session.execute(select(Arrival)).scalars())


async def test_a_text_is_journaled_and_answered_with_nothing_to_say(home):
    answer = await post(home, text(Body="Hei – blåbær 🫐", NewKeyOfNextYear="?", FromCity=""))
    assert (answer.status_code, answer.text) == (200, hooks.NOTHING_TO_SAY)
    assert answer.headers["content-type"].startswith("text/xml")
    [arrival] = arrivals(home)
    assert (arrival.channel, arrival.external_id) == ("sms", f"SM{1:032x}")
    with home.hall.db.read() as session:
        raw = journal.raw_of(session, arrival, home.hall.settings.blobs)
    assert b"NewKeyOfNextYear=%3F" in raw


async def test_the_same_webhook_ten_times_and_long_after_is_one_text(home):
    for _ in range(10):
        assert (await post(home, text())).status_code == 200
    home.clock.move(days=400)  # there is no time in the signature
    assert (await post(home, text())).status_code == 200
    assert len(arrivals(home)) == 1


async def test_strangers_get_one_answer_whatever_is_wrong_and_leave_no_trace(home):
    good, form = sign(text()), text()
    wrong = [
        ({}, form),
        ({"content-type": good["content-type"]}, form),
        (good | {"x-twilio-signature": "A" * 28}, form),
        (sign(form, token="en annen"), form),
        (good, text(Body="noe annet")),
        (sign(form, public="http://127.0.0.1:8080"), form),
        (sign(form, path=hooks.SMS_STATUS), form),
        (good | {"content-type": "application/json"}, form),
        (sign(text(AccountSid="AC" + "1" * 32)), text(AccountSid="AC" + "1" * 32)),
        (sign(text(To="+4790000000")), text(To="+4790000000")),
        (sign(text(To="")), text(To="")),
        (sign(text(Body="x" * 70_000)), text(Body="x" * 70_000)),
    ]
    answers = [await post(home, form, headers=headers) for headers, form in wrong]
    assert {(a.status_code, a.text) for a in answers} == {(403, "Forbidden")}
    assert arrivals(home) == []


async def test_a_signature_for_another_host_header_or_query_is_none_of_ours(home):
    """The address is the configured one: what a proxy or a stranger writes into Host is not it."""
    form = text()
    answer = await home.client.post(
        hooks.SMS,
        content=urlencode(form),
        headers=sign(form) | {"host": "ond.example", "x-forwarded-host": "ond.example"},
    )
    assert answer.status_code == 200
    answer = await home.client.post(f"{hooks.SMS}?a=b", content=urlencode(form), headers=sign(form))
    assert answer.status_code == 403
    with_query = sign(form, f"{hooks.SMS}?a=%20b&c=")
    answer = await home.client.post(
        f"{hooks.SMS}?a=%20b&c=", content=urlencode(form), headers=with_query
    )
    assert answer.status_code == 200


async def test_repeated_and_blank_fields_count_in_the_signature(home):
    form = [*text().items(), ("MediaUrl0", ""), ("Body", "igjen"), ("Body", "igjen")]
    by_name: dict[str, list[str]] = {}
    for name, value in form:
        by_name.setdefault(name, []).append(value)

    class Many(dict):
        def getlist(self, name):
            return self[name]

    signature = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}{hooks.SMS}", Many(by_name))
    headers = sign(text()) | {"x-twilio-signature": signature}
    answer = await home.client.post(hooks.SMS, content=urlencode(form), headers=headers)
    assert answer.status_code == 200
    less = urlencode([pair for pair in form if pair[0] != "MediaUrl0"])
    answer = await home.client.post(hooks.SMS, content=less, headers=headers)
    assert answer.status_code == 403


async def test_only_post_and_only_where_the_door_is_open(home):
    for method in ("GET", "PUT", "DELETE", "HEAD", "PATCH"):
        answer = await home.client.request(method, hooks.SMS, params=text())
        assert answer.status_code == 405, method
    del home.hall.channels["sms"]
    assert (await post(home, text())).status_code == 404
    home.hall.channels["sms"], home.hall.twilio = FakeChannel("sms"), None
    assert (await post(home, text())).status_code == 404


async def test_an_announced_or_endless_body_is_not_read_to_its_end(home):
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 8192
            yield b"Body=" + b"x" * 8187

    answer = await home.client.post(hooks.SMS, content=endless(), headers=sign(text()))
    assert answer.status_code == 403
    assert read < 200_000


async def test_many_bad_ones_keep_no_good_one_out_and_the_log_readable(home, capfd):
    before = HOOKS.labels("sms", "signature")._value.get()
    for _ in range(HOOK.tries + 20):
        assert (await post(home, text(), headers=sign(text(), token="x"))).status_code == 403
    assert HOOKS.labels("sms", "signature")._value.get() - before == HOOK.tries + 20
    out, err = capfd.readouterr()
    assert 0 < (out + err).count("hook.refused") <= HOOK.tries
    assert "+4790012345" not in out + err
    assert (await post(home, text())).status_code == 200


async def test_a_store_that_refuses_is_no_acknowledgement(home):
    await home.hall.hub.stop()
    home.hall.db.stop()
    assert (await post(home, text())).status_code == 503
    home.hall.db.start()
    await home.hall.hub.start()


async def test_a_path_that_a_proxy_takes_away_is_part_of_what_was_signed(tmp_path):
    public = "https://sorum.kommune.no/post"
    async with house(tmp_path, public) as home:
        home.hall.twilio = Account(AccountSettings(SID, (TOKEN,)))
        home.hall.channels["sms"] = FakeChannel("sms")
        form = text()
        assert (await post(home, form, headers=sign(form, public=public))).status_code == 200
        inner = sign(form, public="https://sorum.kommune.no")
        assert (await post(home, form, headers=inner)).status_code == 403


async def test_a_status_is_about_a_number_of_ours_and_a_text_we_know(home):
    form = {
        "MessageSid": f"SM{7:032x}",
        "AccountSid": SID,
        "MessageStatus": "delivered",
        "From": OURS,
        "To": "+4790012345",
    }
    for path in (hooks.SMS_STATUS, f"{hooks.SMS_STATUS}?id=%3Cx%40y%3E", f"{hooks.SMS_STATUS}?id="):
        for odd in ({}, {"MessageStatus": "teleported"}, {"MessageStatus": ""}, {"ErrorCode": "x"}):
            assert (await post(home, form | odd, path=path)).status_code == 200
    theirs = form | {"From": "+4790000000"}
    assert (await post(home, theirs, path=hooks.SMS_STATUS)).status_code == 403
    assert arrivals(home) == []
