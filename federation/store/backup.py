"""Backups: everything that the store keeps, in one file that belongs to no database.

Rules:

1. A backup is a SQLite database with the tables of its release and one more, which says what it is.  It is read in one
   snapshot, so managers go on meanwhile, and comes from and goes into either kind of database.
2. It appears under its name when all of it is on the disk; its mode is 0600: operations that are not settled carry
   passwords and user data.
3. Who holds the shards, and which managers live, is not part of it.
4. A restore is one transaction: it loads, does what has to follow, counts, and only then commits.  It refuses a store
   that has anything in it, unless told to replace it, and always one whose managers live.
5. A backup of an older release is brought to this one on a copy; one of a newer release is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, Text, create_engine, delete, func, insert, select
from sqlalchemy import text as sql_text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from federation.store.downgrading import living_managers
from federation.store.engines import Limits, open_engines
from federation.store.errors import BackupError
from federation.store.faults import translated
from federation.store.migrate import HEAD, check_schema, current_revision, known_revisions, upgrade
from federation.store.sql_store import SqlTransaction
from federation.store.tables import MANAGERS, METADATA, SHARD_CLAIMS

FORMAT = "1"
_FACTS = Table("backup", MetaData(), Column("name", String, primary_key=True), Column("value", Text, nullable=False))
_LEFT_OUT = (MANAGERS, SHARD_CLAIMS)
_TABLES = [table for table in METADATA.sorted_tables if table not in _LEFT_OUT]
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What a backup is: ``taken_at`` is Unix seconds, ``rows`` how many each table has."""

    taken_at: float
    schema: str
    source: str
    rows: dict[str, int]


def back_up(url: str, file: Path, *, replace: bool = False) -> BackupFacts:
    """Write a backup of the store at ``url``.

    Raises BackupError for a file that is there or cannot be written, SchemaMismatch, StoreUnavailable, AddressError.
    """
    if file.exists() and not replace:
        raise BackupError(f"{file} is there already; choose another name, or replace it with --force")
    _refuse_missing(url)
    engines = open_engines(url, Limits())
    try:
        with translated(), engines.reading.connect() as source, source.begin(), _growing(file) as partial:
            check_schema(source)
            facts = _write(source, partial, engines.name)
    finally:
        engines.dispose()
    return facts


def restore(
    url: str, file: Path, finish: Callable[[SqlTransaction, BackupFacts], None], *, replace: bool = False
) -> BackupFacts:
    """Load a backup into the store at ``url``; ``finish`` changes what was loaded before anybody can see it.

    Raises BackupError, SchemaMismatch, StoreUnavailable, AddressError; then the store is as it was.
    """
    with tempfile.TemporaryDirectory(prefix="federation-restore-") as folder:
        copy = Path(folder) / "backup"
        _copy(file, copy)
        with _opened(copy) as source:
            facts = _facts(source, file)
            upgrade(source)
            engines = open_engines(url, Limits())
            try:
                with translated(), engines.writing.connect() as target, target.begin():
                    _take(target)
                    _empty(target, replace=replace)
                    loaded = {table.name: _load(source, target, table) for table in _TABLES}
                    _compare(facts, loaded, file)
                    finish(SqlTransaction(target, writes=True), facts)
                engines.settle()
            finally:
                engines.dispose()
    return facts


def _write(source: Connection, partial: Path, kind: str) -> BackupFacts:
    engine = _engine(partial)
    try:
        with engine.begin() as target:
            upgrade(target)
            rows = {table.name: _load(source, target, table) for table in _TABLES}
            facts = BackupFacts(taken_at=time.time(), schema=HEAD, source=kind, rows=rows)
            _FACTS.create(target)
            told = {"format": FORMAT, "schema": HEAD, "source": kind, "taken_at": repr(facts.taken_at)}
            told["rows"] = json.dumps(rows)
            target.execute(insert(_FACTS), [{"name": name, "value": value} for name, value in told.items()])
    finally:
        engine.dispose()
    return facts


def _load(source: Connection, target: Connection, table: Table) -> int:
    """Copy a table, some rows at a time; returns how many there were."""
    count = 0
    with source.execution_options(stream_results=True, yield_per=_CHUNK).execute(select(table)) as result:
        for rows in result.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])
            count += len(rows)
    return count


def _take(target: Connection) -> None:
    """Hold the whole store until the end of the transaction, with tables of this release in it."""
    if target.dialect.name == "postgresql":
        target.execute(sql_text("SET LOCAL statement_timeout = 0"))
    upgrade(target)
    check_schema(target)
    if target.dialect.name == "postgresql":
        target.execute(sql_text("LOCK TABLE managers, clusters IN ACCESS EXCLUSIVE MODE"))
    if living := living_managers(target):
        raise BackupError(f"managers work on this store: {', '.join(living)}; stop them first (a dead one counts 10 s)")


def _empty(target: Connection, *, replace: bool) -> None:
    for table in reversed(METADATA.sorted_tables):
        if replace or table in _LEFT_OUT:
            target.execute(delete(table))
        elif count := target.execute(select(func.count()).select_from(table)).scalar_one():
            raise BackupError(
                f"the store is not empty ({count} rows in {table.name}); restore into an empty one, or lose what is "
                f"there with --force"
            )


def _compare(facts: BackupFacts, loaded: dict[str, int], file: Path) -> None:
    wrong = [name for name, count in facts.rows.items() if loaded.get(name) != count]
    if wrong:
        raise BackupError(f"{file} is damaged: other rows than it says in {', '.join(sorted(wrong))}")


def _facts(connection: Connection, file: Path) -> BackupFacts:
    try:
        told = {row.name: row.value for row in connection.execute(select(_FACTS))}
        sound = connection.execute(sql_text("PRAGMA integrity_check(1)")).scalar_one()
    except DBAPIError as error:
        raise BackupError(f"{file} is no backup of a store: {error.orig}") from error
    if told.get("format") != FORMAT:
        raise BackupError(f"{file} has the format {told.get('format')!r}, this program reads {FORMAT!r}")
    revision = current_revision(connection)
    if revision != told.get("schema") or revision is None:
        raise BackupError(f"{file} is damaged: it says schema {told.get('schema')!r} and has {revision!r}")
    if sound != "ok":
        raise BackupError(f"{file} is damaged: {sound}")
    if revision not in known_revisions():
        raise BackupError(f"{file} has tables of revision {revision}, this program knows up to {HEAD}: upgrade it")
    return BackupFacts(float(told["taken_at"]), revision, told["source"], json.loads(told["rows"]))


@contextmanager
def _opened(file: Path) -> Iterator[Connection]:
    engine = _engine(file)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(file: Path) -> Engine:
    return create_engine(URL.create("sqlite+pysqlite", database=str(file)), poolclass=NullPool, hide_parameters=True)


def _copy(file: Path, copy: Path) -> None:
    try:
        shutil.copyfile(file, copy)
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from error
    copy.chmod(0o600)


@contextmanager
def _growing(file: Path) -> Iterator[Path]:
    """A file beside ``file`` that nobody else can read, and that takes its name once all of it is on the disk."""
    try:
        number, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)
    except OSError as error:
        raise BackupError(f"nothing can be written in {file.parent}: {error.strerror}") from error
    partial = Path(name)
    try:
        os.close(number)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _refuse_missing(url: str) -> None:
    """Opening a SQLite store makes its file; a backup must not."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return  # open_engines says what is wrong with it
    if address.get_backend_name() == "sqlite" and not Path(str(address.database or "")).is_file():
        raise BackupError("there is no store at this address: its file does not exist")
