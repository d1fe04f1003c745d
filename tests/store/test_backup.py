"""Backup and restore, from and into both databases."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time

import pytest
from sqlalchemy import select, text
from store.making import CLUSTER, TOKEN, cluster, fill, new_operation, settle_head
from store.making import UNKNOWN as OUTCOME_UNKNOWN

from federation.manager.clocks import SystemClock
from federation.manager.restoring import finish_restore
from federation.protocol.pinning import MANAGED
from federation.store import BackupError, StoreError, backup, open_store
from federation.store.engines import Limits, open_engines
from federation.store.migrate import HEAD, downgrade
from federation.store.tables import METADATA

KEPT = [table for table in METADATA.sorted_tables if table.name not in {"managers", "shard_claims"}]


def contents(store):
    with store.reading() as transaction:
        return {table.name: sorted(map(repr, transaction._rows(select(table)))) for table in KEPT}


def as_it_was(_transaction, _facts):
    """Restore the rows and nothing else."""


@pytest.fixture
def target_url(request, tmp_path):
    return f"sqlite:///{tmp_path}/restored.db"


def test_every_row_comes_back_and_the_file_is_its_owners_alone(store, url, tmp_path, target_url):
    fill(store)
    before = contents(store)
    assert all(before.values()), before.keys()
    file = tmp_path / "backup"
    facts = backup.back_up(url, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert facts.schema == HEAD
    assert facts.rows == {name: len(rows) for name, rows in before.items()}
    assert backup.restore(target_url, file, as_it_was) == facts
    restored = open_store(target_url)
    assert contents(restored) == before
    restored.close()
    assert list(tmp_path.glob(".*partial")) == []


def test_a_backup_of_sqlite_goes_into_the_database_of_either_kind(url, tmp_path):
    source_url = f"sqlite:///{tmp_path}/source.db"
    source = open_store(source_url)
    with source.transaction() as transaction:
        transaction.add_cluster(cluster())
    fill(source)
    backup.back_up(source_url, tmp_path / "backup")
    backup.restore(url, tmp_path / "backup", as_it_was)
    target = open_store(url)
    assert contents(target) == contents(source)
    with target.transaction() as transaction:
        transaction.accept(new_operation("later"))
    source.close()
    target.close()


def test_a_backup_is_one_instant_of_a_store_that_is_being_written_to(store, url, tmp_path, target_url):
    fill(store)
    stopped = threading.Event()
    accepted = []

    def write():
        while not stopped.is_set():
            with store.transaction() as transaction:
                accepted.append(transaction.accept(new_operation(f"k{len(accepted) % 7}")).id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(accepted) < 20:
            assert writer.is_alive()
        for number in range(3):
            backup.back_up(url, tmp_path / f"backup{number}")
    finally:
        stopped.set()
        writer.join(10)
    backup.restore(target_url, tmp_path / "backup1", as_it_was)
    restored = open_store(target_url)
    with restored.reading() as transaction:
        found = {o.id for number in range(7) for o in transaction.operation_records(key=f"k{number}", limit=100_000)}
        assert found == set(accepted[: len(found)])
        assert len(found) == sum(transaction.last_sequence(f"k{number}") for number in range(7))
    restored.close()


def test_a_store_that_is_not_empty_is_kept_unless_it_shall_be_replaced(store, url, tmp_path):
    fill(store)
    backup.back_up(url, tmp_path / "backup")
    before = contents(store)
    with pytest.raises(BackupError, match=r"not empty .* --force"):
        backup.restore(url, tmp_path / "backup", as_it_was)
    assert contents(store) == before
    with store.transaction() as transaction:
        transaction.accept(new_operation("newer"))
    backup.restore(url, tmp_path / "backup", as_it_was, replace=True)
    assert contents(store) == before


def test_a_store_that_managers_work_on_is_never_restored_into(store, url, tmp_path):
    backup.back_up(url, tmp_path / "backup")
    store.claim_shards("m1", time.time(), 10.0, MANAGED)
    with pytest.raises(BackupError, match="managers work on this store: m1"):
        backup.restore(url, tmp_path / "backup", as_it_was, replace=True)
    store.release_shards("m1")
    backup.restore(url, tmp_path / "backup", as_it_was, replace=True)


def test_a_restore_that_fails_in_its_last_step_changes_nothing(store, url, tmp_path):
    fill(store)
    backup.back_up(url, tmp_path / "backup")
    with store.transaction() as transaction:
        transaction.accept(new_operation("newer"))
    before = contents(store)

    def fail(_transaction, _facts):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backup.restore(url, tmp_path / "backup", fail, replace=True)
    assert contents(store) == before


def test_files_that_are_there_missing_foreign_or_damaged_are_refused_by_name(store, url, tmp_path, target_url):
    fill(store)
    file = tmp_path / "backup"
    backup.back_up(url, file)
    with pytest.raises(BackupError, match="is there already"):
        backup.back_up(url, file)
    backup.back_up(url, file, replace=True)
    with pytest.raises(BackupError, match="nothing cannot be read"):
        backup.restore(target_url, tmp_path / "nothing", as_it_was)
    (tmp_path / "text").write_text("no database, only some words that are long enough to be read as a header " * 9)
    with pytest.raises(BackupError, match="is no backup"):
        backup.restore(target_url, tmp_path / "text", as_it_was)
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM operations WHERE id = (SELECT min(id) FROM operations)")
    with pytest.raises(BackupError, match="damaged: other rows than it says in operations"):
        backup.restore(target_url, file, as_it_was)
    with pytest.raises(BackupError, match="no store at this address"):
        backup.back_up(f"sqlite:///{tmp_path}/never.db", tmp_path / "other")
    assert not (tmp_path / "never.db").exists()
    with pytest.raises(StoreError, match="nothing can be written"):
        backup.back_up(url, tmp_path / "no" / "folder")


def test_a_backup_of_a_newer_release_is_refused_and_one_of_an_older_is_brought_up(store, url, tmp_path, target_url):
    fill(store)
    file = tmp_path / "backup"
    facts = backup.back_up(url, file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
        connection.execute("UPDATE backup SET value = 'r9999' WHERE name = 'schema'")
    with pytest.raises(BackupError, match=f"revision r9999.*up to {HEAD}: upgrade"):
        backup.restore(target_url, file, as_it_was)
    backup.back_up(url, file, replace=True)
    older = open_engines(f"sqlite:///{file}", Limits())
    with older.writing.begin() as connection:
        downgrade(connection, "r0004")
        rows = {name: count for name, count in facts.rows.items() if name not in {"audit", "old_epochs"}}
        told = {"rows": json.dumps(rows), "schema": "r0004"}
        for name, value in told.items():
            connection.execute(
                text("UPDATE backup SET value = :value WHERE name = :name"), {"name": name, "value": value}
            )
    older.dispose()
    backup.restore(target_url, file, as_it_was)
    restored = open_store(target_url, migrate=False)
    assert contents(restored)["operations"] == contents(store)["operations"]
    restored.close()


def test_after_a_restore_nothing_is_unsettled_and_every_cluster_wants_an_epoch_that_there_never_was(
    store, url, tmp_path, target_url
):
    fill(store, "abcd")
    with store.transaction() as transaction:
        settle_head(transaction, "d", OUTCOME_UNKNOWN)  # parked, with one operation behind it
    backup.back_up(url, tmp_path / "backup")
    done = []
    clock = SystemClock()
    backup.restore(
        target_url,
        tmp_path / "backup",
        lambda transaction, facts: done.append(finish_restore(transaction, clock, facts.taken_at, revoke_tokens=True)),
    )
    assert (done[0].unknown, done[0].refused, done[0].parked, done[0].revoked_tokens) == (5, 1, ("a", "b", "c"), 1)
    restored = open_store(target_url)
    with restored.transaction() as transaction:
        found = transaction.cluster(CLUSTER)
        assert transaction.drain(CLUSTER).unsettled == 0
        assert (found.wanted_partitions, found.epoch > 20_000_000) == (32, True)
        assert [(old.epoch, old.partitions) for old in transaction.old_epochs()] == [(1, 2)]
        states = {key: [o.state.value for o in transaction.operation_records(key=key)] for key in "abcd"}
        assert states == {
            "a": ["unknown", "succeeded"],
            "b": ["unknown", "unknown"],
            "c": ["unknown", "unknown"],
            "d": ["refused", "unknown"],
        }
        facts = transaction.keys(list("abcd"))
        assert {key: (f.position, f.parked_by is not None) for key, f in facts.items()} == dict.fromkeys(
            "abcd", (2, True)
        )
        assert all(transaction.instance(key).parked_by == facts[key].parked_by for key in "abc")
        assert transaction.unpublished(range(32), 10) == []
        assert transaction.tokens_by_id([TOKEN.id])[TOKEN.id].revoked_at is not None
        late = {o.id: o for o in transaction.operation_records(key="b")}
        assert sum("hunter2" in str(o.arguments) for o in late.values()) == 1  # the first may have to be sent again
    restored.close()


def test_a_backup_is_for_its_owner_alone_whatever_the_umask_allows(store, url, tmp_path):
    fill(store)
    (tmp_path / "out").mkdir()
    before = os.umask(0)
    try:
        backup.back_up(url, tmp_path / "out" / "backup")
        seen = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()]
    finally:
        os.umask(before)
    assert seen == [0o600]
