"""The way back to an older release: its tables, before its managers start.

The tables are changed in one transaction, under the lock that managers start under.  What would be lost is found by doing it
and undoing it: both databases undo changes of tables with the transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import ColumnClause, Connection, column, func, inspect, select, table
from sqlalchemy import text as sql_text

from federation.store.engines import Limits, open_engines
from federation.store.errors import DowngradeError
from federation.store.faults import translated
from federation.store.migrate import HEAD, current_revision, downgrade, known_revisions, scripts
from federation.store.tables import MANAGERS


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of the tables and what it brought."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What goes with newer tables: ``table`` or ``table.column``, and how many rows have something there."""

    where: str
    rows: int


def revisions() -> list[Revision]:
    """All that this program knows, newest first."""
    return [Revision(script.revision, (script.doc or "").splitlines()[0]) for script in scripts()]


def schema_of(url: str) -> str | None:
    """The revision of the store's tables, None when it has none; raises StoreUnavailable, AddressError."""
    engines = open_engines(url, Limits())
    try:
        with translated(), engines.reading.connect() as connection, connection.begin():
            return current_revision(connection)
    finally:
        engines.dispose()


def plan_downgrade(url: str, to: str) -> list[Loss]:
    """What would be lost by going back to a revision; nothing is changed.  Raises as ``downgrade_store``."""
    return _downgraded(url, to, keep=False)


def downgrade_store(url: str, to: str) -> list[Loss]:
    """Go back to an older revision; returns what was lost.

    Raises DowngradeError (unknown or newer revision, living managers, a cluster between two epochs), StoreUnavailable,
    AddressError; then nothing was changed.
    """
    return _downgraded(url, to, keep=True)


def living_managers(connection: Connection) -> list[str]:
    """Managers that work on this store by what they said last; one that died counts until its claims expire (10 s)."""
    if connection.dialect.name == "postgresql":
        now = float(connection.execute(sql_text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    else:
        now = time.time()
    statement = select(MANAGERS.c.id).where(MANAGERS.c.expires_at > now).order_by(MANAGERS.c.id)
    return list(connection.execute(statement).scalars())


def _downgraded(url: str, to: str, *, keep: bool) -> list[Loss]:
    engines = open_engines(url, Limits())
    try:
        with translated(), engines.writing.connect() as connection:
            transaction = connection.begin()
            try:
                _check(connection, to)
                before = _filled(connection)
                downgrade(connection, to)
                after = _columns(connection)
            except BaseException:
                transaction.rollback()
                raise
            if keep:
                transaction.commit()
            else:
                transaction.rollback()
        engines.settle()
    finally:
        engines.dispose()
    return [loss for loss in before if loss.where not in after and _is_told(loss, after)]


def _is_told(loss: Loss, after: set[str]) -> bool:
    """A table that goes as a whole is told, and not its columns one by one."""
    name, dot, _ = loss.where.partition(".")
    return not dot or name in after


def _check(connection: Connection, to: str) -> None:
    current = current_revision(connection)
    if current is None:
        raise DowngradeError("the database has no tables")
    if current not in known_revisions():
        raise DowngradeError(
            f"the tables are of revision {current}, this program knows up to {HEAD}: use the newer one"
        )
    if connection.dialect.name == "postgresql":
        connection.execute(sql_text("SET LOCAL statement_timeout = 0"))
        connection.execute(sql_text("LOCK TABLE managers IN ACCESS EXCLUSIVE MODE"))
    order = [revision.name for revision in revisions()]
    if to not in order:
        raise DowngradeError(f"there is no revision {to!r}; there are {', '.join(order)}")
    if order.index(to) <= order.index(current):
        raise DowngradeError(f"the tables are of revision {current}, which is not newer than {to}")
    if living := living_managers(connection):
        raise DowngradeError(
            f"managers work on this store: {', '.join(living)}; stop them first (a dead one counts 10 s)"
        )
    if "wanted_partitions" in {each["name"] for each in inspect(connection).get_columns("clusters")}:
        wanting = sql_text("SELECT name FROM clusters WHERE wanted_partitions IS NOT NULL")
        if names := list(connection.execute(wanting).scalars()):
            raise DowngradeError(
                f"these clusters are on their way to another epoch: {', '.join(names)}; let them arrive"
            )


def _columns(connection: Connection) -> set[str]:
    found = inspect(connection)
    tables = [name for name in found.get_table_names() if name != "alembic_version"]
    return {*tables, *(f"{name}.{each['name']}" for name in tables for each in found.get_columns(name))}


def _filled(connection: Connection) -> list[Loss]:
    """Every table and column that has something, with the number of rows."""
    losses = []
    found = inspect(connection)
    for name in sorted(set(found.get_table_names()) - {"alembic_version"}):
        names = [each["name"] for each in found.get_columns(name)]
        columns: list[ColumnClause[object]] = [column(each) for each in names]
        counts = select(func.count(), *(func.count(each) for each in columns)).select_from(table(name, *columns))
        total, *filled = connection.execute(counts).one()
        losses += [Loss(name, total)] if total else []
        losses += [Loss(f"{name}.{each}", count) for each, count in zip(names, filled, strict=True) if count]
    return losses
