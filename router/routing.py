"""Ruleset, calendar and reply targets as the configuration says, and the explanation of a
decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.email.addresses import OwnAddresses
from channels.email.authentication import Trust
from channels.numbers import e164
from channels.sms.base import Plan
from channels.sms.parse import fold
from router.preparing import DIALLED, Workbench
from rules.decide import Decision, decide
from rules.facts import Facts
from rules.ruleset import Ruleset, load
from rules.targets import ReplyTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from router.settings import Settings
    from rules.calendar import WorkingCalendar


TOLD_APART = ("nb", "nn", "en", "pl", "uk")
"""The languages that a text is looked through for: those of our letters, and the most common ones
whose readers may not know bokmål."""


def load_ruleset(settings: Settings, today: date | None = None, *, proven: bool = False) -> Ruleset:
    """The configured ruleset. Raises `DocumentError` with everything that is wrong.

    `proven`: this process's parent has loaded the very same files.
    """
    return load(
        settings.rules.folder,
        departments={slug: d.name.nb for slug, d in settings.departments.items()},
        targets=settings.reply_targets,
        tables={
            "department_addresses": settings.department_names | settings.department_addresses,
            "department_numbers": settings.line_departments,
        },
        today=today,
        languages=TOLD_APART,
        proven=proven,
    )


def build_targets(settings: Settings) -> dict[str, ReplyTarget]:
    """Slug -> reply target."""
    return {
        slug: ReplyTarget(
            slug=slug,
            working_days=target.working_days,
            months=target.months,
            warn_working_days=target.warn_working_days,
            after_hours=target.after_hours,
        )
        for slug, target in settings.reply_targets.items()
    }


def own_addresses(settings: Settings) -> OwnAddresses:
    """What the e-mail door accepts."""
    return OwnAddresses(
        addresses=frozenset({*settings.address_owners, settings.channels.email.sender}),
        domains=settings.mail_domains,
    )


def build_workbench(settings: Settings, *, proven: bool = False) -> Workbench:
    """Everything that preparing an arrival needs; built once per process."""
    return Workbench(
        own=own_addresses(settings),
        ruleset=load_ruleset(settings, proven=proven),
        calendar=settings.calendar.build(),
        targets=build_targets(settings),
        blobs=settings.blobs,
        hours=department_hours(settings),
        trust=relay_trust(settings),
        texts=text_plan(settings),
    )


def text_plan(settings: Settings) -> Plan:
    """What our numbers for texts are, and which departments a second word can name: by their slug
    or by the name of one of their addresses."""
    words = {
        fold(address.partition("@")[0]): slug for address, slug in settings.address_owners.items()
    }
    words |= {fold(slug): slug for slug in settings.departments}
    sms = settings.channels.sms
    return Plan(sms.numbers, sms.keyword, words)


def relay_trust(settings: Settings) -> Trust:
    """What our own mail relay may tell us in the header of a mail."""
    email = settings.channels.email
    return Trust(
        authserv_id=email.trust.authserv_id.strip().lower(),
        spam_header=email.trust.spam_header.strip().lower(),
        relay_is_known=bool(email.listen.trusted_peers) or email.lmtp.enabled,
    )


def department_hours(settings: Settings) -> dict[str, WorkingCalendar]:
    """Department slug -> when it is open; the municipality's hours where it has none of its own."""
    common = settings.calendar.build()
    return {
        slug: settings.calendar.build(department.hours) if department.hours else common
        for slug, department in settings.departments.items()
    }


def explain(
    ruleset: Ruleset,
    now: datetime,
    open_departments: Mapping[str, bool],
    *,
    channel: str,
    to: str = "",
    sender: str = "",
    subject: str = "",
    text: str = "",
) -> Decision:
    """What the rules would decide about a contact. Stores nothing."""
    facts = Facts(
        channel=channel,
        now=now,
        recipients=(to.strip().lower(),) if to.strip() else (),
        did=e164(to) if channel in DIALLED else "",
        sender=sender.strip().lower(),
        subject=subject,
        body=text,
        open=open_departments,
    )
    return decide(ruleset, facts)
