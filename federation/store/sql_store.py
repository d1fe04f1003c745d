"""The store: opens transactions, retries where nothing has been done yet, translates what the database says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine, RootTransaction
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from federation.protocol.pinning import MANAGED, Range
from federation.store import claims
from federation.store.access_rows import AccessRows
from federation.store.audit_rows import AuditRows
from federation.store.cluster_rows import ClusterRows
from federation.store.engines import Engines, Limits, open_engines
from federation.store.epoch_rows import EpochRows
from federation.store.faults import is_transient, translated
from federation.store.figure_rows import FigureRows
from federation.store.grant_rows import GrantRows
from federation.store.instance_rows import InstanceRows
from federation.store.ledger import LedgerRows
from federation.store.migrate import check_schema, upgrade
from federation.store.operation_rows import OperationRows
from federation.store.retention_rows import RetentionRows
from federation.store.session import WallClock
from federation.store.turns import Turns
from federation.store.worker_rows import WorkerRows

_BEGINNING = Retrying(
    retry=retry_if_exception(lambda error: isinstance(error, DBAPIError) and is_transient(error)),
    stop=stop_after_attempt(4) | stop_after_delay(5.0),
    wait=wait_random_exponential(multiplier=0.05, max=1.0),
    reraise=True,
)
"""Nothing has been done before a transaction has begun, so beginning may be tried again."""


class SqlTransaction(
    LedgerRows,
    ClusterRows,
    EpochRows,
    WorkerRows,
    InstanceRows,
    OperationRows,
    AccessRows,
    GrantRows,
    FigureRows,
    AuditRows,
    RetentionRows,
):
    """All that one transaction can do (the port ``Transaction`` of federation.manager.store_ports)."""


class SqlStore:
    """Where the manager's truth lives (the port ``Store``); safe to use from any number of threads.

    Transactions of one thread may not be nested.  On SQLite one transaction writes at a time; keep them short.
    """

    def __init__(self, engines: Engines, wall_clock: WallClock = time.time, patience: float = 10.0) -> None:
        self._engines = engines
        self._turn = Turns(patience).turn if engines.name == "sqlite" else nullcontext
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        """The kind of database only: its URL may hold a password."""
        return f"<SqlStore on {self._engines.name}>"

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """A writing transaction: commits when the context ends, rolls back when it ends by an exception.

        StoreUnavailable when it cannot begin (tried again some times: nothing has been done), or when the database
        gives up on it later; StoreRefused for what trying again would not help.
        """
        with self._writing() as connection:
            yield SqlTransaction(connection, writes=True, wall_clock=self._wall_clock)

    @contextmanager
    def reading(self) -> Iterator[SqlTransaction]:
        """A transaction that reads one snapshot; a method that writes raises StoreRefused.  Errors as above."""
        with translated(), _begun(self._engines.reading) as connection:
            yield SqlTransaction(connection, writes=False, wall_clock=self._wall_clock)

    @contextmanager
    def glancing(self) -> Iterator[SqlTransaction]:
        """For reading methods of one statement: cheaper than ``reading``, but each statement may see a snapshot of its own."""
        with translated(), _begun(self._engines.glancing) as connection:
            yield SqlTransaction(connection, writes=False, wall_clock=self._wall_clock)

    def claim_shards(self, manager: str, now_wall: float, ttl: float, releases: Range = MANAGED) -> frozenset[int]:
        """Renew this manager's claims for ``ttl`` seconds and take its fair share (rules in ``claims``)."""
        with self._writing() as connection:
            return claims.claim_shards(connection, manager, now_wall, ttl, releases)

    def release_shards(self, manager: str) -> None:
        """Give all claims back."""
        with self._writing() as connection:
            claims.release_shards(connection, manager)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """The turn ends with the commit; the disk is waited for behind it, while others write."""
        with translated():
            with self._turn(), _begun(self._engines.writing) as connection:
                yield connection
            self._engines.settle()

    def close(self) -> None:
        """Let go of every connection; a temporary database is gone then."""
        self._engines.dispose()


def open_store(
    url: str, *, migrate: bool = True, limits: Limits | None = None, wall_clock: WallClock = time.time
) -> SqlStore:
    """Open the store at a URL of SQLAlchemy's form.

    ``sqlite:///<path>``, ``sqlite://`` (temporary: gone when it is closed), or
    ``postgresql+psycopg://user:password@host/database``.  ``migrate`` brings older tables to this release; without it,
    and for newer tables, SchemaMismatch.  AddressError for a URL that cannot be meant, StoreUnavailable when the
    database cannot be reached.
    """
    limits = limits or Limits()
    engines = open_engines(url, limits)
    try:
        with translated(), _begun(engines.writing) as connection:
            if migrate:
                upgrade(connection)
            check_schema(connection)
        engines.settle()
    except BaseException:
        engines.dispose()
        raise
    return SqlStore(engines, wall_clock, limits.patience)


@contextmanager
def _begun(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that ends with the context."""
    try:
        transaction = _begin(engine)
    except DBAPIError as error:
        if not is_transient(error):
            raise
        transaction = _BEGINNING(_begin, engine)
    try:
        with transaction:
            yield transaction.connection
    finally:
        transaction.connection.close()


def _begin(engine: Engine) -> RootTransaction:
    connection = engine.connect()
    try:
        return connection.begin()
    except BaseException:
        connection.close()
        raise
