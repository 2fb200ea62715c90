"""Statements compiled once do what the mapper's would, on either database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import bindparam, create_engine, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from router.models import Event, SQLModel
from router.statements import Prepared, _binder, inserting

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TABLE = Event.__table__
INSERT = inserting(TABLE, "at kind department once data", returning="id")
ROW = {"at": NOON, "kind": "note", "department": "vei", "once": None, "data": {"ref": "Ærlig 🙂"}}


@pytest.fixture
def connection():
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def test_values_come_back_as_they_went_in(connection):
    assert INSERT.each(connection, [ROW, ROW | {"kind": "second"}]) == [(1,), (2,)]
    stored = connection.execute(
        select(TABLE.c.at, TABLE.c.kind, TABLE.c.data).order_by(TABLE.c.id)
    ).all()
    assert stored == [(NOON, "note", ROW["data"]), (NOON, "second", ROW["data"])]


def test_values_of_the_statement_itself_are_put_in(connection):
    INSERT.one(connection, ROW)
    close = Prepared(
        lambda _dialect: update(TABLE).where(TABLE.c.id == bindparam("number")).values(kind="over")
    )
    close.many(connection, [{"number": 1}])
    assert connection.execute(select(TABLE.c.kind)).scalars().all() == ["over"]


def test_a_naive_instant_is_refused(connection):
    with pytest.raises(ValueError, match=r"naive|timezone|aware"):
        INSERT.one(connection, ROW | {"at": datetime(2026, 11, 25)})  # noqa: DTZ001


def test_the_drivers_errors_come_out_as_sqlalchemys_without_the_values(connection):
    row = ROW | {"once": "hemmelig"}
    INSERT.one(connection, row)
    with pytest.raises(IntegrityError) as refused:
        INSERT.one(connection, row)
    assert "hemmelig" not in str(refused.value)


def test_postgresql_gets_its_parameters_by_name():
    statement = inserting(TABLE, "at kind department once")
    compiled = statement._statement("postgresql").compile(dialect=postgresql.dialect())
    bound = _binder(compiled)(ROW)
    assert set(bound) == {"at", "kind", "department", "once"}
    assert bound["at"] == NOON
