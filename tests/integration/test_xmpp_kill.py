"""Messages by XMPP while the service and the server are killed: each is kept once.

`SENTRALBORD_XMPP_MESSAGES=1500` makes it the long one.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.integration.prosody import RESIDENTS, needs_prosody, person, prosody
from tests.integration.test_xmpp import until_linked
from tests.service import Service, service, wait_until

pytestmark = [needs_prosody, pytest.mark.slow]

MESSAGES = int(os.environ.get("SENTRALBORD_XMPP_MESSAGES", "150"))
WINDOW = 50
"""Without a receipt, at a time."""


def kept(house: Service) -> list[str]:
    query = "SELECT text FROM message WHERE direction = 'in' ORDER BY id"
    return [text for (text,) in house.read(query)]


def test_two_deaths_of_the_service_and_one_of_the_server_lose_and_double_nothing(
    smarthost, tmp_path
):
    texts = [f"Melding nummer {number}" for number in range(MESSAGES)]
    with prosody(tmp_path / "server") as server:
        settings = server.settings | {
            "CHANNELS__CHAT__MESSAGES_PER_MINUTE": "1000000",
            "CHANNELS__XMPP__DOMAIN_MESSAGES_PER_MINUTE": "1000000",
        }
        with (
            service(tmp_path / "house", smarthost.port, **settings) as house,
            person(server, "kari", RESIDENTS) as kari,
        ):
            until_linked(house)
            began = time.monotonic()
            kari.do(do="insist", to=kari.at("servicetorg"), texts=texts, window=WINDOW)
            for share, killed in ((0.25, house), (0.5, server), (0.75, house)):
                kari.expect_receipts(int(MESSAGES * share))
                killed.kill()
                if killed is house:
                    house.restart()
                else:
                    server.start()
            kari.expect("all", patience=120)
            took = time.monotonic() - began
            wait_until(lambda: len(kept(house)) >= MESSAGES, "the last ones are taken in")
            assert sorted(kept(house)) == sorted(texts)
            [(inquiries,)] = house.read("SELECT count(*) FROM inquiry")
            assert inquiries == 1
            bounced = sum(event["kind"] == "error" for event in kari.heard)
            print(f"{MESSAGES} messages in {took:.1f} s, {bounced} bounced and sent again")
