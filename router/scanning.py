"""Has mail looked at by the scanners beside us, after it was accepted and before it is read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from channels.email.scan import Scanner
from router import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.email.verdict import Verdict
    from router.preparing import Work
    from router.settings import Settings


def scanner_of(settings: Settings) -> Scanner | None:
    """The scanners of an installation; None when it has none."""
    scan = settings.channels.email.scan
    return Scanner(scan.clamd, scan.rspamd) if scan.clamd or scan.rspamd else None


async def scanned(scanner: Scanner | None, work: Sequence[Work]) -> list[Work]:
    """The same work, each mail with the verdict in its envelope. Never raises for a scanner."""
    if scanner is None:
        return list(work)
    return list(await asyncio.gather(*(_scanned(scanner, one) for one in work)))


async def _scanned(scanner: Scanner, work: Work) -> Work:
    if work.channel != "email":
        return work
    verdict = await scanner.scan(work.blob or work.raw, work.envelope)
    metrics.SCANS.labels(_result(verdict)).inc()
    return replace(work, envelope={**work.envelope, "scan": verdict.for_envelope()})


def _result(verdict: Verdict) -> str:
    if verdict.virus:
        return "virus"
    if verdict.spam:
        return "spam"
    return "unscanned" if verdict.unscanned else "clean"
