"""Statements compiled once: SQLAlchemy writes them and converts the values, the driver runs them.

For what is done for every contact. `Connection.execute` compiles its cache key, builds a context
and a result each time, which costs more than the statement itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, bindparam, insert
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection


class Prepared:
    """One statement with a fixed set of parameters, for whichever database it is run on."""

    def __init__(self, statement: Callable[[str], Any]) -> None:
        """`statement` makes it for the name of a dialect."""
        self._statement = statement
        self._compiled: dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {}

    def one(self, connection: Connection, row: Mapping[str, Any]) -> Any:
        """Run it for one row; returns the first row of its answer, or None."""
        return self.each(connection, [row])[0]

    def each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run it for each row; returns the first row of each answer, in order."""
        sql, bind = self._for(connection)
        answers = []
        with _cursor(connection, sql) as cursor:
            for row in rows:
                cursor.execute(sql, bind(row))
                answers.append(cursor.fetchone())
        return answers

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for all rows, without an answer."""
        if not rows:
            return
        sql, bind = self._for(connection)
        with _cursor(connection, sql) as cursor:
            cursor.executemany(sql, [bind(row) for row in rows])

    def _for(self, connection: Connection) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
        dialect = connection.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._statement(dialect.name).compile(dialect=dialect)
            found = self._compiled[dialect.name] = (str(compiled), _binder(compiled))
        return found


def inserting(table: Any, columns: str, returning: str = "") -> Prepared:
    """An INSERT of the named columns, separated by spaces; answers with one column if asked."""
    statement = insert(table).values({name: bindparam(name) for name in columns.split()})
    if returning:
        statement = statement.returning(table.c[returning])
    return Prepared(lambda _dialect: statement)


@contextmanager
def _cursor(connection: Connection, sql: str) -> Iterator[Any]:
    """The driver's cursor; its errors come out as SQLAlchemy's, without the values."""
    driver = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        yield cursor
    except driver.Error as error:
        raise DBAPIError.instance(
            sql, None, error, driver.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()


def _binder(compiled: Any) -> Callable[[Mapping[str, Any]], Any]:
    """What turns a row into the driver's parameters, each value as its column's type wants it.

    Values that the statement itself holds are put in unless the row has its own.
    """
    convert: dict[str, Callable[[Any], Any]] = {
        name: processor for name, processor in compiled._bind_processors.items() if processor
    }
    constants: dict[str, Any] = {}
    for parameter, name in compiled.bind_names.items():
        if name in convert and parameter.type._type_affinity is DateTime:
            # The rows of a batch share their instants, and writing one out takes a while.
            convert[name] = lru_cache(256)(convert[name])
        if not parameter.required:
            constants[name] = parameter.effective_value
    names = list(compiled.positiontup if compiled.positional else compiled.bind_names.values())
    plan = [(name, convert.get(name)) for name in names]

    def values(row: Mapping[str, Any]) -> list[Any]:
        if constants:
            row = constants | dict(row)
        return [row[name] if change is None else change(row[name]) for name, change in plan]

    if compiled.positional:
        return values
    return lambda row: dict(zip(names, values(row), strict=True))
