"""What the parts of a running service share. `app.py` builds it; nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from channels.base import Channel
    from channels.email.scan import Scanner
    from channels.twilio import Account
    from router.call_commands import CallCommands
    from router.chat_live import ChatHub
    from router.correspondence import Letterhead
    from router.db import Database
    from router.events import EventHub
    from router.jobs import Beat
    from router.number_plan import NumberPlan
    from router.preparing import Workshop
    from router.presence import Directory
    from router.reception import Reception
    from router.reconcile import Reconciler
    from router.sending import Outbox
    from router.settings import Settings
    from router.tokens import Signer
    from router.workers import Worker
    from router.xmpp import XmppOffice
    from rules.calendar import WorkingCalendar
    from rules.ruleset import Ruleset


@dataclass
class Hall:
    """The open service: settings, store, live events, ruleset, doors."""

    settings: Settings
    db: Database
    hub: EventHub
    signer: Signer
    clock: Callable[[], datetime]
    ruleset: Ruleset
    calendar: WorkingCalendar
    hours: Mapping[str, WorkingCalendar]
    """Department slug -> when it is open."""
    directory: Directory
    """Who works here, by the configuration."""
    reception: Reception
    counter: Workshop
    """Where forms are read, whose senders wait."""
    viewer: Worker
    """Where formatted versions are made: hostile ones keep nobody waiting but other viewers."""
    outbox: Outbox
    reply_context: Letterhead
    chats: ChatHub
    """Who has a chat open, and what is told to them."""
    scanner: Scanner | None = None
    channels: dict[str, Channel] = field(default_factory=dict)
    beat: Beat | None = None
    twilio: Account | None = None
    """The provider of the phone and SMS doors; None where neither is open with them."""
    file_scanner: Scanner | None = None

    plan: NumberPlan | None = None
    """The number plan, where calls are told of: by the phone door, or by the exchange."""
    reconciler: Reconciler | None = None
    """Looks through the provider's lists; None where there is no provider."""
    commands: CallCommands | None = None
    """What the phone provider is told to do; None where it takes no commands."""

    xmpp: XmppOffice | None = None
    """What the hall does by XMPP; None where that door is not open."""

    def has_door(self, name: str) -> bool:
        """Whether webhooks of a door are taken."""
        return name in self.channels or (name == "phone" and self.settings.channels.phone.enabled)

    def status_url(self, inquiry_id: int) -> str:
        """The resident's own page of an inquiry."""
        return self.reply_context.status_url(inquiry_id)

    def doors_health(self) -> dict[str, str]:
        """Door -> what is wrong with it, empty when well."""
        health = {name: channel.health() for name, channel in self.channels.items()}
        if self.commands is not None:
            health["phone"] = self.commands.problem
        if self.xmpp is not None:
            name = self.xmpp.door.name
            health[name] = health.get(name) or self.xmpp.problem
        return health

    def doors_notes(self) -> dict[str, str]:
        """Door -> what there is to say of it when it is well, where that is more than being
        open."""
        return {self.xmpp.door.name: self.xmpp.door.note()} if self.xmpp is not None else {}
