"""Nothing acknowledged is ever lost, nothing is taken twice: `kill -9` at random moments."""

from __future__ import annotations

import pytest

from tests import service as running
from tests.integration.crash import SETTINGS, crash

pytestmark = pytest.mark.slow


def test_every_acknowledged_mail_is_there_once_after_being_killed_again_and_again(tmp_path):
    with (
        running.sink() as smarthost,
        running.service(tmp_path / "service", smarthost.port, **SETTINGS) as service,
    ):
        report = crash(service, smarthost, kills=4)
    assert report.acknowledged >= 4
    assert report.faults == []


def test_a_reply_whose_sending_was_cut_short_goes_out_once_more_unchanged(tmp_path):
    with (
        running.sink() as smarthost,
        running.service(tmp_path / "service", smarthost.port) as service,
    ):
        desk = running.Desk(service.api())
        subject, sender = running.unique(), "kari@eksempel.no"
        service.deliver(running.mail(subject, sender=sender), mail_from=sender)
        ref = desk.open(subject)["ref"]
        smarthost.first_to(sender)
        gate = smarthost.sink.hold("CONTENT")
        desk.act(ref, "reply", text="Vi kommer i morgen.")
        smarthost.first_to(sender, 2)  # taken, but not yet answered
        service.kill()
        smarthost.release(gate)
        service.restart()
        first, again = smarthost.first_to(sender, 3)[1:]
        assert first.sunk.raw == again.sunk.raw
        assert first["Message-ID"] == again["Message-ID"]
        desk.until(
            ref,
            lambda inquiry: (
                [m["delivery"] for m in inquiry["messages"] if m["kind"] == "reply"] == ["sent"]
            ),
            "the delivery of the reply",
        )


def test_stopping_lets_the_message_being_sent_go_out_and_keeps_the_others(tmp_path):
    """A planned restart must not send anything twice."""
    with (
        running.sink() as smarthost,
        running.service(tmp_path / "service", smarthost.port) as service,
    ):
        gate = smarthost.sink.hold("CONTENT")
        senders = [f"{running.unique('x')[2:]}@eksempel.no" for _ in range(8)]
        for sender in senders:
            service.deliver(running.mail(running.unique(), sender=sender), mail_from=sender)
        running.wait_until(lambda: smarthost.messages, "the first receipt")
        service.terminate()
        running.wait_until(lambda: "service.stopping" in service.log, "the stop")
        smarthost.release(gate)
        assert service.stop() == 0
        service.restart()
        for sender in senders:
            smarthost.first_to(sender)
        running.wait_until(
            lambda: service.read("SELECT count(*) FROM outbox WHERE state = 'queued'")[0][0] == 0,
            "sending everything",
        )
        assert sorted(m.sunk.recipients[0] for m in smarthost.messages) == sorted(senders)
