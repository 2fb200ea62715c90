"""The store's schema: bring it to this release, and say whether it is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from router.db import writer_engine

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def head_revision() -> str:
    """The schema revision this release works with: the number of the last migration file."""
    # Read off the names, because Alembic takes a tenth of a second to import at every start.
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def current_revision(url: str) -> str:
    """The revision of a store, empty when it is new."""
    engine = writer_engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return ""
            query = text("SELECT version_num FROM alembic_version")
            return connection.execute(query).scalar() or ""
    finally:
        engine.dispose()


def migrate(url: str) -> tuple[str, str]:
    """Bring a store to this release; returns the revisions before and after."""
    before = current_revision(url)
    if before == head_revision():
        return before, before
    from alembic import command

    engine = writer_engine(url)
    try:
        with engine.connect() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()
    return before, current_revision(url)


def alembic_config() -> Config:
    """Alembic's configuration, pointing at our migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
