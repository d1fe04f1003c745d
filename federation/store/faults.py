"""What the database's own errors mean: gone by itself later, or wrong for good.

The driver's words are kept, statements and parameters are not: those hold users' data.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from federation.protocol.errors import StoreUnavailable
from federation.store.errors import StoreError, StoreRefused

_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
"""PostgreSQL's SQLSTATE classes: connection lost, rolled back (serialization, deadlock), out of resources, operator
intervention (shutdown, timeouts, cancel), system error."""

_TRANSIENT_STATES = frozenset({"25P03", "25P04", "55P03"})
"""Idle too long in a transaction, transaction too long, lock not available in time."""

_TRANSIENT_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Primary result codes of https://sqlite.org/rescode.html; the low eight bits of an extended one."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise StoreUnavailable or StoreRefused instead of what SQLAlchemy raises."""
    try:
        yield
    except SQLAlchemyError as error:
        raise translate(error) from error


def translate(error: SQLAlchemyError) -> StoreUnavailable | StoreError:
    """The store's error for one of SQLAlchemy."""
    if isinstance(error, PoolTimeout):
        return StoreUnavailable("every connection to the database is busy; try again later")
    if not isinstance(error, DBAPIError):
        return StoreRefused(f"the store was used in a way that SQLAlchemy refuses: {type(error).__name__}")
    words = _words(error)
    if is_transient(error):
        return StoreUnavailable(f"the database cannot be used now: {words}")
    if isinstance(error, IntegrityError):
        return StoreRefused(f"the database refused to break a rule of its tables: {words}")
    return StoreRefused(f"the database refused a statement: {words}")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed later."""
    if error.connection_invalidated:
        return True
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return (getattr(original, "sqlite_errorcode", 0) & 0xFF) in _TRANSIENT_SQLITE
    state = getattr(original, "sqlstate", None)
    if state is None:  # libpq says so without a state: no connection, or the server went away
        return type(original).__name__ in {"OperationalError", "ConnectionTimeout"}
    return state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)


def _words(error: DBAPIError) -> str:
    """The driver's first line without DETAIL, which quotes the row's values."""
    diagnosis = getattr(error.orig, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    return str(primary or error.orig).strip().split("\n", 1)[0]
