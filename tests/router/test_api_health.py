"""Health pages, figures, and what every response of the application has in common."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network

import pytest
from prometheus_client.parser import text_string_to_metric_families

from channels.base import RawArrival
from router import journal
from router.errors import TooManyError
from router.jobs import Beat
from router.web.limits import Limits, Rate
from tests.router.store_house import MONDAY
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def test_healthz_only_says_that_the_process_answers(home):
    home.hall.db.stop()
    answer = await home.visitor().get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.fixture
async def busy(home):
    """A house with its jobs running."""
    beat = home.hall.beat = Beat(home.hall)
    beat.start()
    yield home
    beat.stop()


async def test_readyz_has_a_line_for_every_part(busy):
    home = busy
    answer = await home.visitor().get("/readyz")
    assert answer.status_code == 200, answer.text
    readiness = answer.json()
    assert readiness["status"] == "ok"
    assert {"store", "migrations", "intake", "outbox", "jobs", "disk"} <= set(readiness["parts"])
    assert all(part["ok"] and part["detail"] for part in readiness["parts"].values())


async def test_readyz_names_what_is_wrong(busy):
    home = busy
    arrival = RawArrival("email", "x", MONDAY - timedelta(seconds=90), {}, b"")
    await home.hall.db.write(
        lambda session: journal.insert(session.connection(), [journal.Entry(arrival)])[0]
    )

    class Door:
        def health(self):
            return "Port 2525 is taken."

    home.hall.channels["email"] = Door()
    answer = await home.visitor().get("/readyz")
    parts = answer.json()["parts"]
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")
    assert {name for name, part in parts.items() if not part["ok"]} == {"intake", "door:email"}
    assert "90 s" in parts["intake"]["detail"]
    assert parts["door:email"]["detail"] == "Port 2525 is taken."


async def test_a_mail_server_that_does_not_answer_does_not_take_the_queue_away(busy):
    busy.hall.outbox.problem = "E-posttjeneren svarer ikke."
    answer = await busy.visitor().get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert not answer.json()["parts"]["outbox"]["ok"]


async def test_a_door_that_does_not_listen_takes_nothing_in(busy):
    class Door:
        def health(self):
            return "E-postdøren lytter ikke."

    busy.hall.channels["email"] = Door()
    answer = await busy.visitor().get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")
    assert [n for n, part in answer.json()["parts"].items() if not part["ok"]] == ["door:email"]


async def test_readyz_tells_that_no_jobs_run(home):
    answer = await home.visitor().get("/readyz")
    assert answer.status_code == 503
    assert [n for n, part in answer.json()["parts"].items() if not part["ok"]] == ["jobs"]


async def test_readyz_tells_that_the_writer_has_stopped(home):
    home.hall.db.stop()
    answer = await home.visitor().get("/readyz")
    assert answer.status_code == 503
    assert not answer.json()["parts"]["store"]["ok"]


async def test_a_store_that_takes_no_writes_is_said_to_be_so(home):
    api = await home.api()
    ref = await home.inquiry()
    home.hall.db._stopping = True
    answer = await api.post(f"/api/inquiries/{ref}/claim")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert (await api.get(f"/api/inquiries/{ref}")).status_code == 200
    home.hall.db._stopping = False


async def test_metrics_can_be_read_by_prometheus_and_name_no_one(home):
    ref = await home.inquiry()
    api = await home.api()
    await api.get(f"/api/inquiries/{ref}")
    await home.visitor().get("/status/a-secret-in-the-address")
    text = (await home.visitor().get("/metrics")).text
    figures = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert figures["sentralbord_open", (("department", "vei"),)] == 1
    assert figures["sentralbord_parked", ()] == 0
    assert figures["sentralbord_outbox", (("state", "queued"),)] == 1
    labels = (("method", "GET"), ("route", "/api/inquiries/{ref}"), ("status", "200"))
    assert figures["sentralbord_http_seconds_count", labels] >= 1
    assert ref not in text
    assert "a-secret" not in text
    assert "kari@" not in text


async def test_unknown_addresses_make_no_new_series(home):
    for number in range(5):
        await home.visitor().get(f"/finnes-ikke-{number}")
        await home.visitor().request(f"VERB{number}", "/healthz")
    text = (await home.visitor().get("/metrics")).text
    assert "finnes-ikke" not in text
    assert "VERB" not in text


async def test_pages_say_in_norwegian_what_is_wrong(home):
    answer = await home.visitor().get("/finnes-ikke")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert 'lang="nb"' in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (await home.visitor().delete("/desk/login")).status_code == 405


async def test_pages_are_compressed_and_the_api_is_not(home):
    ask = {"Accept-Encoding": "gzip"}
    page = await home.visitor().get("/desk/login", headers=ask)
    assert page.headers["content-encoding"] == "gzip"
    assert (
        "content-encoding"
        not in (await home.visitor().get("/api/openapi.json", headers=ask)).headers
    )


async def test_static_files_are_kept_for_ever_only_under_a_fingerprint(home):
    page = await home.visitor().get("/desk/login")
    address = re.search(r'href="(/static/[^"]+\.css\?v=[^"]+)"', page.text)[1]
    for_ever = await home.visitor().get(address)
    plain = await home.visitor().get(address.partition("?")[0])
    assert "immutable" in for_ever.headers["cache-control"]
    assert plain.headers["cache-control"] == "no-cache"
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static/nothing.css"):
        assert (await home.visitor().get(path)).status_code in {404, 308}


async def test_https_is_insisted_on_where_it_is_used(tmp_path):
    async with house(tmp_path, "https://sentralbord.example") as home:
        answer = await home.visitor().get("/healthz")
    assert answer.headers["strict-transport-security"].startswith("max-age=")


class _Request:
    def __init__(self, peer, *forwarded):
        self.client = type("Client", (), {"host": peer}) if peer else None
        self.headers = type("Headers", (), {"getlist": lambda _s, _n: list(forwarded)})()


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["10.0.0.1"], "203.0.113.9"),  # a stranger may claim what they like
        ("10.0.0.5", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.5", ["1.2.3.4, 198.51.100.7"], "198.51.100.7"),  # only our proxy's own entry
        ("10.0.0.5", ["198.51.100.7, 10.0.0.6"], "198.51.100.7"),
        ("10.0.0.5", ["1.2.3.4", "198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.5", ["nonsense"], "10.0.0.5"),
        ("10.0.0.5", [], "10.0.0.5"),
        ("::ffff:10.0.0.5", ["[2001:db8:1:2::7]:443"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::8", [], "2001:db8:1:2::/64"),
        (None, ["1.2.3.4"], "unknown"),
    ],
)
def test_the_address_of_a_client(peer, forwarded, client):
    assert Limits([ip_network("10.0.0.0/8")]).client_of(_Request(peer, *forwarded)) == client


def test_tries_fill_up_again_and_are_counted_per_address():
    now = [0.0]
    limits = Limits(clock=lambda: now[0])
    rate = Rate("r", 3, 30)
    for _ in range(3):
        limits.take(rate, "a")
    with pytest.raises(TooManyError) as refused:
        limits.take(rate, "a")
    assert 10 <= refused.value.retry_after <= 11
    limits.take(rate, "b")
    now[0] = 10
    limits.take(rate, "a")
    with pytest.raises(TooManyError):
        limits.take(rate, "a")
    limits.give_back(rate, "a")
    limits.take(rate, "a")


def test_many_addresses_take_no_more_than_a_fixed_room():
    limits = Limits(size=100)
    for number in range(1000):
        limits.take(Rate("r", 3, 30), str(number))
    assert len(limits._buckets) == 100
