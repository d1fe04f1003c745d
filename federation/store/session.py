"""One open transaction: a connection, a clock, and the few things that are said differently on the two databases."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, CursorResult, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from federation.store.errors import StoreRefused

WallClock = Callable[[], float]
"""Seconds since the Unix epoch."""

_Value = TypeVar("_Value", str, tuple[str, int])
_CHUNK_SIZES = (1, 4, 16, 48)


class Session:
    """What the groups of rows (ledger, clusters, workers, …) share within one transaction."""

    def __init__(self, connection: Connection, *, writes: bool, wall_clock: WallClock = time.time) -> None:
        self._connection = connection
        self._writes = writes
        self._wall_clock = wall_clock

    @property
    def _dialect(self) -> str:
        return self._connection.dialect.name

    def _execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        if (
            not self._writes and statement.is_dml
        ):  # what only glances is in no transaction that the database keeps read-only
            raise StoreRefused("what only reads may not write")
        return self._connection.execute(statement, parameters)

    def _changed(self, statement: Executable, parameters: Any = None) -> int:
        """Execute an UPDATE or DELETE, and say how many rows it hit (SQLAlchemy does not count for an INSERT)."""
        return self._execute(statement, parameters).rowcount

    def _rows(self, statement: Executable, parameters: Any = None) -> Sequence[Any]:
        return self._execute(statement, parameters).fetchall()

    def _row(self, statement: Executable, parameters: Any = None) -> Any | None:
        return self._execute(statement, parameters).fetchone()

    def _rows_in(self, statement: Executable, name: str, values: Collection[str], **more: Any) -> Iterator[Any]:
        """Rows of a statement with an expanding parameter, chunk by chunk in sorted order."""
        for chunk in chunks(values):
            yield from self._execute(statement, {name: chunk, **more}).fetchall()


def chunks(values: Iterable[_Value], columns: int = 1) -> Iterator[list[_Value]]:
    """Distinct values, or tuples of some columns, in sorted order, in lists of few different lengths.

    The length is part of the statement's text: with few lengths SQLite, psycopg and SQLAlchemy find it prepared.  psycopg
    parses a statement of over 50 parameters or 4,096 bytes anew each time, which takes longer than a round trip.  A list is
    filled up by repeating its last value, which changes nothing inside IN.
    """
    ordered = sorted(set(values))
    sizes = [size for size in _CHUNK_SIZES if size * columns <= _CHUNK_SIZES[-1]]
    largest = sizes[-1]
    for start in range(0, len(ordered), largest):
        chunk = ordered[start : start + largest]
        size = next(size for size in sizes if size >= len(chunk))
        yield chunk + chunk[-1:] * (size - len(chunk))


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """The INSERT that knows ON CONFLICT; both databases say it alike, SQLAlchemy has one for each."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@functools.cache
def insert_unless_there(dialect: str, table: Table, told: Column[str]) -> ReturningInsert[tuple[str]]:
    """INSERT … ON CONFLICT DO NOTHING RETURNING ``told``: no row means that a unique value was taken."""
    return insert_into(dialect, table).on_conflict_do_nothing().returning(told)
