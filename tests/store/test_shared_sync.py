from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from store.making import SHARDS, cluster, new_operation

from federation.protocol.errors import StoreUnavailable
from federation.store.engines import Limits, open_engines
from federation.store.shared_sync import SharedSync
from federation.store.sql_store import SqlStore, open_store


class Disk:
    """Counts syncs, and keeps the first one busy until it is let go."""

    def __init__(self, *, fails=False):
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.syncs = 0
        self._fails = fails

    def sync(self, log):
        os.fstat(log)  # it is open
        self.syncs += 1
        self.began.set()
        assert self.go_on.wait(10)
        if self._fails:
            raise OSError(5, "Input/output error")


@pytest.fixture
def database(tmp_path):
    (tmp_path / "store.db-wal").write_bytes(b"log")
    return tmp_path / "store.db"


@pytest.mark.parametrize("fails", [False, True])
def test_commits_that_come_during_a_sync_share_the_next_one_and_its_fate(database, fails):
    disk = Disk(fails=fails)
    shared = SharedSync(database, 10.0, disk.sync)
    with ThreadPoolExecutor(9) as pool:
        waits = [pool.submit(shared.wait)]
        assert disk.began.wait(10)
        waits += [pool.submit(shared.wait) for _ in range(8)]
        while shared._asked < 9:
            threading.Event().wait(0.01)
        disk.go_on.set()
        errors = [wait.exception(10) for wait in waits]
    assert disk.syncs == 2, "one for the first, one for the eight that came later"
    assert all(isinstance(error, StoreUnavailable) for error in errors) if fails else errors == [None] * 9


def test_a_commit_waits_no_longer_than_its_patience_for_a_sync_that_hangs(database):
    disk = Disk()
    shared = SharedSync(database, 0.05, disk.sync)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(shared.wait)
        assert disk.began.wait(10)
        with pytest.raises(StoreUnavailable, match="did not answer"):
            shared.wait()
        disk.go_on.set()
        assert hanging.exception(10) is None


def test_a_log_that_sqlite_has_removed_needs_no_sync(tmp_path):
    SharedSync(tmp_path / "gone.db", 1.0).wait()


def test_a_transaction_returns_only_behind_a_sync_that_began_after_its_commit_and_holds_nobody_up(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    with open_store(url).transaction() as transaction:
        transaction.add_cluster(cluster())
    engines = open_engines(url, Limits())
    seen = []

    def settle():
        with other.transaction() as transaction:  # it would wait for ever if the turn were still held
            seen.append([out.command.key for out in transaction.unpublished(SHARDS, 10)])

    other = SqlStore(engines)
    store = SqlStore(replace(engines, settle=settle))
    store._turn = other._turn
    with store.transaction() as transaction:
        transaction.accept(new_operation("mine"))
        assert seen == []
    assert seen == [["mine"]]
    engines.dispose()


def test_a_transaction_that_the_disk_does_not_confirm_is_not_reported_as_done(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    with open_store(url).transaction() as transaction:
        transaction.add_cluster(cluster())
    disk = Disk(fails=True)
    disk.go_on.set()
    engines = open_engines(url, Limits())
    store = SqlStore(replace(engines, settle=SharedSync(tmp_path / "store.db", 1.0, disk.sync).wait))
    with pytest.raises(StoreUnavailable, match="disk"), store.transaction() as transaction:
        transaction.accept(new_operation())
    engines.dispose()
