"""The store's schema: bring it to this release, and say whether it is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from router.db import writer_engine


@cache
def head_revision() -> str:
    """The schema revision this release works with."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


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
    engine = writer_engine(url)
    try:
        with engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()
    return before, current_revision(url)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
