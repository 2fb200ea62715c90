"""Alembic's entry: runs on the connection that `router.schema` hands over.

Without one it uses a scratch file, to compare the models with when a migration is written.
"""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import router.call_models
import router.chat_models
import router.models  # noqa: F401 - registers the tables
from router.db import writer_engine


def run() -> None:
    """Run the migrations in one transaction."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = context.config.get_main_option("sqlalchemy.url") or "sqlite:///var/autogenerate.db"
    with writer_engine(url).connect() as scratch:
        _migrate(scratch)
        scratch.commit()


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=SQLModel.metadata,
        # SQLite cannot alter columns in place; Alembic then rebuilds the table and keeps the rows.
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
