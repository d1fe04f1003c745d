"""What happens when the database, or this process, is lost, locked or misused."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from store.making import CLUSTER, ON_POSTGRESQL, ON_SQLITE, SHARDS, cluster, new_operation

from federation.protocol.errors import StoreUnavailable
from federation.store import AddressError, Limits, StoreRefused, open_store

DYING = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from federation.store import open_store
from store.making import new_operation, settle_head
store = open_store({url!r})
with store.transaction() as transaction:
    transaction.accept(new_operation("committed"))
with store.transaction() as transaction:
    for _ in range(50):
        transaction.accept(new_operation("lost"))
    settle_head(transaction, "committed")
    transaction.accept(new_operation("committed"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_in_the_middle_of_a_transaction_leaves_nothing_half_done(store, url):
    program = DYING.format(url=url, tests=str(Path(__file__).resolve().parent.parent))
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with store.transaction() as transaction:
        assert transaction.last_sequence("lost") == 0
        assert transaction.last_sequence("committed") == 1
        assert transaction.keys(["committed"])["committed"].position == 0
        assert [one.command.key for one in transaction.unpublished(SHARDS, 100)] == ["committed"]
        assert transaction.accept(new_operation("lost")).sequence == 1


def scalar(transaction, statement):
    return transaction._execute(text(statement)).scalar_one()


@ON_SQLITE
def test_sqlite_has_a_committed_transaction_on_the_disk(store):
    with store.transaction() as transaction:
        assert scalar(transaction, "PRAGMA synchronous") == 1, "NORMAL: see shared_sync, which waits for the disk"
        assert scalar(transaction, "PRAGMA journal_mode") == "wal"
        assert scalar(transaction, "PRAGMA foreign_keys") == 1
        before = store._engines.settle.__self__._ended
    assert store._engines.settle.__self__._ended == before + 1


def test_a_store_that_others_lock_for_too_long_is_unavailable_and_usable_afterwards(store, open_another):
    impatient = open_another(limits=Limits(patience=0.2))
    with store.transaction() as transaction:
        transaction.accept(new_operation("a"))
        with pytest.raises(StoreUnavailable), impatient.transaction() as other:
            other.accept(new_operation("a"))
    with impatient.transaction() as other:
        assert other.accept(new_operation("a")).sequence == 2


def test_waiting_for_a_connection_ends(store, open_another):
    small = open_another(limits=Limits(patience=0.2, connections=1))
    with small.reading(), pytest.raises(StoreUnavailable, match="every connection"), small.reading():
        pytest.fail("there is one connection only")
    with small.reading() as transaction:
        assert transaction.clusters() == [cluster()]


@ON_POSTGRESQL
def test_a_connection_lost_in_a_transaction_makes_the_store_unavailable_and_nothing_is_written(store, open_another):
    admin = open_another()

    def lose_it():
        with store.transaction() as transaction:
            transaction.accept(new_operation("a"))
            end_backend(admin, scalar(transaction, "SELECT pg_backend_pid()"))
            transaction.accept(new_operation("a"))

    with pytest.raises(StoreUnavailable):
        lose_it()
    with store.transaction() as transaction:
        assert transaction.last_sequence("a") == 0


@ON_POSTGRESQL
def test_a_connection_lost_between_transactions_is_replaced_unnoticed(store, open_another):
    with store.reading() as transaction:
        process = scalar(transaction, "SELECT pg_backend_pid()")
    end_backend(open_another(), process)
    with store.transaction() as transaction:
        assert transaction.accept(new_operation("a")).sequence == 1


def end_backend(store, process):
    with store.transaction() as transaction:
        scalar(transaction, f"SELECT pg_terminate_backend({process}, 5000)")


@ON_POSTGRESQL
def test_nothing_waits_for_ever(store):
    with store.reading() as transaction:
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert scalar(transaction, f"SHOW {limit}") not in {"0", ""}


@pytest.mark.parametrize("way", ["reading", "glancing"])
def test_what_reads_may_not_write(store, way):
    with pytest.raises(StoreRefused), getattr(store, way)() as transaction:
        transaction.accept(new_operation("a"))
    with store.reading() as transaction:
        assert transaction.last_sequence("a") == 0


def test_a_statement_that_can_never_work_is_refused_without_quoting_its_values(store):
    with pytest.raises(StoreRefused) as refused, store.transaction() as transaction:
        transaction._execute(
            text("INSERT INTO clusters (name, driver) VALUES (:name, :driver)"), {"name": "s3cret", "driver": None}
        )
    assert "s3cret" not in str(refused.value)
    with pytest.raises(StoreRefused), store.transaction() as transaction:
        transaction._execute(text("SELECT * FROM no_such_table"))


def said(error):
    """What a log shows of an error and of the errors behind it."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error!r} {error}" + (said(behind) if behind is not None else "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://ann:s3cret@db/x", "mysql"),
        ("not a url with s3cret", "cannot be read"),
        ("postgresql+psycopg://ann:s3cret@db:port/x", "cannot be read"),
        ("postgresql+psycopg2://ann:s3cret@db/x", "psycopg2"),
        ("sqlite://ann:s3cret@host/x", "path and nothing else"),
        ("sqlite:////no/such/folder/store.db", "/no/such/folder"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_its_password(url, words):
    with pytest.raises(AddressError, match=words) as refused:
        open_store(url)
    assert "s3cret" not in said(refused.value)


def test_a_server_that_cannot_be_reached_is_unavailable_and_its_password_stays_secret():
    with pytest.raises(StoreUnavailable) as refused:
        open_store("postgresql+psycopg://ann:s3cret@127.0.0.1:1/x")
    assert "127.0.0.1" in str(refused.value)
    assert "s3cret" not in said(refused.value)


def test_a_store_shows_no_address(store):
    assert repr(store) in {"<SqlStore on sqlite>", "<SqlStore on postgresql>"}


@ON_SQLITE
def test_the_stores_files_belong_to_their_owner_alone(store, tmp_path):
    with store.transaction() as transaction:
        transaction.accept(new_operation())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("store.db*")}
    assert "store.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_temporary_store_is_shared_by_threads_and_gone_when_it_is_closed():
    store = open_store("sqlite://")
    with store.transaction() as transaction:
        transaction.add_cluster(cluster())
        with store.reading() as reader:
            assert reader.clusters() == []
    with store.reading() as reader:
        assert reader.cluster(CLUSTER) == cluster()
    store.close()
    empty = open_store("sqlite://")
    with empty.reading() as reader:
        assert reader.clusters() == []
    empty.close()
