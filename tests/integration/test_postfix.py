"""A real Postfix in front: it holds mail while we are away, and nothing is lost or taken twice."""

from __future__ import annotations

import pytest

from tests import service as running
from tests.integration.crash import SETTINGS, outage
from tests.integration.postfix import OUT_OF_ORDER, postfix

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(OUT_OF_ORDER), reason=OUT_OF_ORDER),
]


def test_an_outage_behind_postfix_loses_nothing_and_doubles_nothing(tmp_path):
    port = running.free_port()
    lmtp = {"CHANNELS__EMAIL__LMTP__ENABLED": "true", "CHANNELS__EMAIL__LMTP__PORT": str(port)}
    with (
        running.sink() as smarthost,
        running.service(tmp_path / "service", smarthost.port, **SETTINGS, **lmtp) as service,
        postfix(f"lmtp:inet:127.0.0.1:{port}") as relay,
    ):
        report = outage(service, relay, smarthost, seconds=10, clients=2)
    assert report.waited > 0
    assert report.acknowledged > report.waited
    assert report.faults == []
