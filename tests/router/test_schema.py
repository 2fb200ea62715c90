"""The tables: what the migrations make is what the models say."""

from __future__ import annotations

import ast
import inspect
from contextlib import closing
from datetime import UTC, datetime

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from router import models, schema
from router.db import reader_engine, sqlite_version, writer_engine
from router.errors import SettingsError
from router.settings import load_settings
from router.store import prepare_data, require_schema
from tests.router.store_house import REPOSITORY


@pytest.fixture
def settings(tmp_path):
    settings = load_settings(
        REPOSITORY / "config.yaml", {"SENTRALBORD_DATA": str(tmp_path / "data")}
    )
    prepare_data(settings)
    return settings


def test_the_migrations_make_what_the_models_say(settings):
    assert schema.migrate(settings.database_url) == ("", schema.head_revision())
    engine = writer_engine(settings.database_url)
    with closing(engine.connect()) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
        made = tables(connection)
    engine.dispose()
    assert made["inquiry"]["due_at"] == "DATETIME"
    assert "alembic_version" in made


def test_the_indexes_of_the_migrations_hold_the_columns_of_the_models(settings):
    """Conditions of partial indexes included; the comparison above does not look at those."""
    schema.migrate(settings.database_url)
    migrated = indexes(settings.database_url)
    url = settings.database_url.replace("sentralbord.db", "models.db")
    engine = writer_engine(url)
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    assert {name: sql for name, sql in migrated.items() if name} == indexes(url)
    assert len(migrated) > 10


def indexes(url: str) -> dict[str, str]:
    engine = reader_engine(url)
    with closing(engine.connect()) as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).all()
    engine.dispose()
    return {name: " ".join(sql.split()) for name, sql in rows}


def tables(connection) -> dict[str, dict[str, str]]:
    look = sqlalchemy.inspect(connection)
    return {
        name: {column["name"]: str(column["type"]) for column in look.get_columns(name)}
        for name in look.get_table_names()
    }


def test_there_is_one_newest_revision_and_it_is_the_one_the_service_asks_for():
    script = ScriptDirectory.from_config(schema.alembic_config())
    assert script.get_heads() == [schema.head_revision()]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "revision", [f"{number:04}" for number in range(1, int(schema.head_revision()))]
)
def test_a_store_with_something_in_every_table_comes_to_this_release(settings, revision):
    """Tables that others refer to are rebuilt on the way."""
    engine = writer_engine(settings.database_url)
    config = schema.alembic_config()
    with closing(engine.connect()) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        before = sqlalchemy.MetaData()
        before.reflect(connection)
        for table in before.tables.values():
            if table.name != "alembic_version":
                connection.execute(table.insert().values(a_row(table)))
        connection.commit()
    assert schema.migrate(settings.database_url) == (revision, schema.head_revision())
    with closing(engine.connect()) as connection:
        for table in before.tables.values():
            assert connection.exec_driver_sql(f"SELECT 1 FROM {table.name}").first(), table.name
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None
    engine.dispose()


def a_row(table) -> dict[str, object]:
    """A row that refers to the first row of every other table."""
    keys = {key.parent: key.column for key in table.foreign_keys}
    values: dict[str, object] = {}
    for column in table.columns:
        kind = keys.get(column, column).type
        if isinstance(kind, sqlalchemy.Integer | sqlalchemy.Boolean):
            values[column.name] = 1
        elif isinstance(kind, sqlalchemy.DateTime):
            values[column.name] = datetime(2026, 11, 23, tzinfo=UTC)
        elif isinstance(kind, sqlalchemy.JSON):
            values[column.name] = {}
        elif isinstance(kind, sqlalchemy.LargeBinary):
            values[column.name] = b"x"
        else:
            values[column.name] = "x"
    return values


def test_migrating_again_changes_nothing(settings):
    schema.migrate(settings.database_url)
    head = schema.head_revision()
    assert schema.migrate(settings.database_url) == (head, head)


def test_a_store_of_another_release_is_refused_in_words(settings):
    schema.migrate(settings.database_url)
    engine = writer_engine(settings.database_url)
    with closing(engine.connect()) as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    engine.dispose()
    with pytest.raises(SettingsError, match="Run: sentralbord migrate"):
        require_schema(settings)


def test_a_new_store_is_made_by_itself(settings):
    require_schema(settings)
    assert schema.current_revision(settings.database_url) == schema.head_revision()


def test_the_models_can_be_read_by_sqlmodel():
    """With `from __future__ import annotations` relationships and enums break on first use."""
    tree = ast.parse(inspect.getsource(models))
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in imports


def test_commits_survive_a_power_cut_and_foreign_keys_hold(settings):
    engine = writer_engine(settings.database_url)
    with closing(engine.connect()) as connection:
        kept = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys", "secure_delete")
        }
    engine.dispose()
    assert kept == {
        "synchronous": 2,  # FULL
        "journal_mode": "wal",
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_the_version_of_sqlite_is_known():
    assert sqlite_version() >= (3, 35)  # RETURNING
