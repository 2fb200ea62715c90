"""The store's schema: bring it to this release, and say whether it is there."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from router.db import writer_engine
from router.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def head_revision() -> str:
    """The schema revision this release works with: the number of the last migration file."""
    # Read off the names, because Alembic takes a tenth of a second to import at every start.
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def current_revision(url: str) -> str:
    """The revision of a store, empty when it is new. Raises `SettingsError` when it cannot be
    opened for writing."""
    with _connected(url) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        query = text("SELECT version_num FROM alembic_version")
        return connection.execute(query).scalar() or ""


def migrate(url: str) -> tuple[str, str]:
    """Bring a store to this release; returns the revisions before and after. Raises
    `SettingsError` when it cannot be opened for writing."""
    before = current_revision(url)
    if before == head_revision():
        return before, before
    from alembic import command

    with _connected(url) as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            # A table that is rebuilt is gone for a moment, and what refers to it must not mind
            # (sqlite.org/lang_altertable.html §7). Inside a transaction this would do nothing.
            connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        command.upgrade(config, "head")
        if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
            raise SettingsError(
                f"The store cannot be brought from {before or 'new'} to {head_revision()}: rows in "
                "it refer to others that are missing. Nothing was changed."
            )
        connection.commit()
    return before, current_revision(url)


def alembic_config() -> Config:
    """Alembic's configuration, pointing at our migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """A connection that may write; what keeps it from that is told in one sentence."""
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise SettingsError("database is no database URL, like sqlite:////var/db.") from None
    try:
        engine = writer_engine(url)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except ImportError as error:
        raise SettingsError(
            f"The database {shown} needs the Python package {error.name}, which is not installed."
        ) from None
    except NoSuchModuleError:
        raise SettingsError(f"There is no driver for the database {shown}.") from None
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise SettingsError(f"The database {shown} cannot be used: {reason}.") from error
