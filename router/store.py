"""The store of one installation: its data directory, its schema, what it mirrors of the
configuration."""

from __future__ import annotations

import hashlib
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlmodel import Session, col

from router import schema
from router.errors import SettingsError
from router.models import Department, RulesetVersion

if TYPE_CHECKING:
    from datetime import datetime

    from router.settings import Settings
    from rules.ruleset import Ruleset


def prepare_data(settings: Settings) -> None:
    """Make the data directory (mode 0700). Raises `SettingsError` when that is impossible."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.data.chmod(0o700)
        settings.blobs.mkdir(mode=0o700, exist_ok=True)
        for folder in (settings.data, settings.blobs):
            with TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise SettingsError(
            f"The data directory {settings.data} cannot be written: {error.strerror}. "
            "Set data or SENTRALBORD_DATA to one that can."
        ) from error


def freeze_rules(settings: Settings) -> Settings:
    """Copy the rule files into the data directory and let the settings point there.

    Workers that are started later must read the rules that are in force, not half-edited ones.
    """
    texts = {path.name: path.read_bytes() for path in sorted(settings.rules.folder.glob("*.yaml"))}
    name = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16]
    folder = settings.data / "rules" / name / settings.rules.folder.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, content in texts.items():
        (folder / file).write_bytes(content)
    return settings.model_copy(
        update={"rules": settings.rules.model_copy(update={"folder": folder})}
    )


def require_schema(settings: Settings) -> None:
    """Make the schema of a new store; refuse one of another release. Raises `SettingsError`."""
    current = schema.current_revision(settings.database_url)
    if not current:
        schema.migrate(settings.database_url)
    elif current != schema.head_revision():
        raise SettingsError(
            f"The store has schema {current}, this release needs {schema.head_revision()}. "
            "Run: sentralbord migrate"
        )


def sync_departments(session: Session, settings: Settings) -> None:
    """Mirror the departments of the configuration; one that was removed stays, inactive, for its
    history."""
    known = {d.slug: d for d in session.execute(select(Department)).scalars()}
    for position, (slug, department) in enumerate(settings.departments.items()):
        row = known.pop(slug, None) or Department(slug=slug, name_nb="", name_nn="", name_en="")
        row.name_nb, row.name_nn, row.name_en = (
            department.name.nb,
            department.name.nn,
            department.name.en,
        )
        row.address = department.addresses[0] if department.addresses else ""
        row.external = department.external
        row.active = True
        row.position = position
        session.add(row)
    for row in known.values():
        row.active = False
        session.add(row)


def remember_ruleset(session: Session, ruleset: Ruleset, now: datetime) -> None:
    """Keep the ruleset by its hash, so that every decision can be reproduced."""
    query = select(col(RulesetVersion.hash)).where(col(RulesetVersion.hash) == ruleset.hash)
    if session.execute(query).scalar() is None:
        session.add(RulesetVersion(hash=ruleset.hash, content=ruleset.content, loaded_at=now))
