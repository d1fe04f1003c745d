"""Connections to SQLite and PostgreSQL, set up so that both keep the same promises.

1. A writing transaction on SQLite begins with BEGIN IMMEDIATE: it takes the one write lock before it reads, so writers
   queue up and none has to be rolled back for having read too early.  Writers of this process share one connection
   and take turns (``turns``); SQLite's busy timeout is for other processes.
2. Readers have connections of their own, read one snapshot, and can write nothing.
3. A committed transaction survives a power failure: WAL, and whoever commits waits for the disk (``shared_sync``);
   PostgreSQL's synchronous_commit is the server's business.
4. Waiting ends: for a connection, for the server to answer, for a lock, for a statement, for a forgotten transaction.
"""

from __future__ import annotations

import select
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import QueuePool

from federation.store.errors import AddressError
from federation.store.shared_sync import SharedSync

_STATEMENT_CACHE = 256
_POSTGRESQL_OPTIONS = {
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}
_POSTGRESQL_CONNECT = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "driver-federation",
}


_RESTS_UNTRIED = 1.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``patience``: seconds to wait for a lock or for a free connection; ``connections`` at most, of one process."""

    patience: float = 10.0
    connections: int = 10


def _nothing_to_wait_for() -> None:
    """The database waits for its disk by itself, or its file ends with the process anyway."""


@dataclass(frozen=True, slots=True)
class Engines:
    """One database: all three may be the same pool; ``dispose`` lets go of everything.

    ``reading`` holds one snapshot for a whole transaction, ``glancing`` may take one for each statement.

    ``settle`` is called after each commit, with nothing held, and returns when what was committed is on the disk.
    """

    name: str
    writing: Engine
    reading: Engine
    glancing: Engine
    dispose: Callable[[], None]
    settle: Callable[[], None] = _nothing_to_wait_for


def open_engines(url: str, limits: Limits) -> Engines:
    """Connect to nothing yet; raise AddressError for a URL that is no SQLite or PostgreSQL address."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Without the cause: it may quote a piece of the password.
        message = "the store's URL cannot be read; expected sqlite:///<path> or postgresql+psycopg://…"
        raise AddressError(message) from None
    backend = address.get_backend_name()
    if backend == "sqlite" and address.drivername in {"sqlite", "sqlite+pysqlite"}:
        return _sqlite(address, limits)
    if backend == "postgresql":
        return _postgresql(address, limits)
    raise AddressError(f"the store cannot be of kind {address.drivername!r}; use sqlite or postgresql+psycopg")


def _sqlite(address: URL, limits: Limits) -> Engines:
    if address.host or address.query:
        raise AddressError("a SQLite URL has a path and nothing else: sqlite:///relative.db or sqlite:////absolute.db")
    if address.database in {None, "", ":memory:"}:
        # Several connections to one database in memory block readers while somebody writes; a file that nobody else
        # knows behaves like any other database, and is gone when the store is closed or the process ends.
        folder = tempfile.TemporaryDirectory(prefix="federation-store-")
        engines = _sqlite_file(Path(folder.name) / "store.db", limits, synchronous="OFF")
        return Engines(
            "sqlite", engines.writing, engines.reading, engines.reading, _both(engines.dispose, folder.cleanup)
        )
    path = Path(str(address.database)).absolute()
    if not path.parent.is_dir():
        raise AddressError(f"the folder of the store's file does not exist: {path.parent}")
    # Arguments of operations may hold users' secrets; SQLite gives its other files the same mode.
    path.touch(mode=0o600)
    engines = _sqlite_file(path, limits, synchronous="NORMAL")
    return replace(engines, settle=SharedSync(path, limits.patience).wait)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            first()
        finally:
            second()

    return run


def _sqlite_file(path: Path, limits: Limits, synchronous: str) -> Engines:
    url = URL.create("sqlite+pysqlite", database=str(path))
    options: dict[str, Any] = {
        "poolclass": QueuePool,
        "max_overflow": 0,
        "pool_timeout": limits.patience,
        "hide_parameters": True,
        # isolation_level None: the standard library begins nothing by itself, the events below do.
        "connect_args": {
            "timeout": limits.patience,
            "check_same_thread": False,
            "isolation_level": None,
            "cached_statements": _STATEMENT_CACHE,
        },
    }
    writing = create_engine(url, pool_size=1, **options)
    reading = create_engine(url, pool_size=limits.connections, **options)
    pragmas = (f"synchronous={synchronous}", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-32768")
    _on_connect(writing, ("journal_mode=WAL", "journal_size_limit=67108864", *pragmas))
    _on_connect(reading, (*pragmas, "query_only=ON"))
    _on_begin(writing, "BEGIN IMMEDIATE")
    _on_begin(reading, "BEGIN")
    return Engines("sqlite", writing, reading, reading, _both(writing.dispose, reading.dispose))


def _on_connect(engine: Engine, pragmas: tuple[str, ...]) -> None:
    def run(connection: Any, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", run)


def _on_begin(engine: Engine, statement: str) -> None:
    def run(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", run)


def _postgresql(address: URL, limits: Limits) -> Engines:
    if address.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise AddressError(f"{address.drivername!r} is not supported; use postgresql+psycopg")
    options = {**_POSTGRESQL_OPTIONS, "lock_timeout": f"{limits.patience * 1000:.0f}ms"}
    settings = " ".join(f"-c {name}={value}" for name, value in options.items())
    own = address.query.get("options", "")
    arguments = {name: value for name, value in _POSTGRESQL_CONNECT.items() if name not in address.query}
    arguments["options"] = f"{settings} {own if isinstance(own, str) else ' '.join(own)}".strip()
    writing = create_engine(
        address.set(drivername="postgresql+psycopg"),
        pool_size=limits.connections,
        max_overflow=0,
        pool_timeout=limits.patience,
        pool_use_lifo=True,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        connect_args=arguments,
    )
    _try_after_rest(writing)
    # Readers see one snapshot; psycopg says both in the BEGIN that it sends anyway.  A glance sends no BEGIN and no COMMIT.
    reading = writing.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    glancing = writing.execution_options(isolation_level="AUTOCOMMIT")
    return Engines("postgresql", writing, reading, glancing, writing.dispose)


def _try_after_rest(engine: Engine) -> None:
    """Try a connection before it is used, when it has rested for a while, or its server has said something unasked.

    A server that ends a connection says so, and a system that ends closes it; either can be seen without asking.
    SQLAlchemy's own ``pool_pre_ping`` asks every time, a round trip for each transaction.
    """

    def returned(_connection: Any, record: Any) -> None:
        record.info["returned_at"] = time.monotonic()

    def taken(connection: Any, record: Any, _proxy: object) -> None:
        rested = time.monotonic() - record.info.get("returned_at", time.monotonic())
        try:
            if rested >= _RESTS_UNTRIED or _is_readable(connection):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError(str(error)) from error  # the pool takes or makes another

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


def _is_readable(connection: Any) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
