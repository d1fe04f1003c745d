"""Migrations forth and back with something in every table, and the operator's way back to an older release."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import MetaData, select
from store.making import CLUSTER, cluster, fill

from federation.protocol.pinning import MANAGED
from federation.store import SchemaMismatch, StoreError, downgrading, open_store
from federation.store.engines import Limits, open_engines
from federation.store.migrate import HEAD, downgrade, upgrade

REVISIONS = [each.name for each in downgrading.revisions()]


@pytest.fixture
def connect(url):
    engines = open_engines(url, Limits())
    yield engines.writing.begin
    engines.dispose()


def contents(connection):
    """By table: rows as sets of (column, value)."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: [
            frozenset((key, repr(value)) for key, value in row.items())
            for row in connection.execute(select(table)).mappings()
        ]
        for name, table in found.tables.items()
        if name not in {"alembic_version", "shard_claims"}
    }


def kept(old, new):
    """Whether what both have is alike: each row of the one with fewer columns is part of a row of the other."""
    for name in old.keys() & new.keys():
        assert len(old[name]) == len(new[name]), name
        for row in old[name]:
            assert any(row <= other or other <= row for other in new[name]), (name, row)
    return True


def test_every_step_back_and_forth_keeps_all_that_both_releases_have(store, url, connect):
    fill(store)
    store.close()
    with connect() as connection:
        before = contents(connection)
    assert [name for name, rows in before.items() if not rows] == ["managers"]
    for revision in REVISIONS[1:]:
        with connect() as connection:
            downgrade(connection, revision)
            older = contents(connection)
            assert kept(older, before)
    for revision in reversed(REVISIONS[:-1]):
        with connect() as connection:
            upgrade(connection, revision)
            assert kept(older, contents(connection))
    open_store(url, migrate=False).close()


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_a_store_goes_back_and_says_what_is_lost_and_an_upgrade_takes_it_up_again(store, url, connect, revision):
    fill(store)
    with connect() as connection:
        before = contents(connection)
    planned = downgrading.plan_downgrade(url, revision)
    with connect() as connection:
        assert contents(connection) == before  # planning changes nothing
    assert downgrading.downgrade_store(url, revision) == planned
    assert downgrading.schema_of(url) == revision
    where = {loss.where for loss in planned}
    assert ({"audit", "old_epochs"} <= where) == (revision < "r0005")
    assert "workers.waiting_since" in where
    assert ("tokens" in where) == (revision < "r0003")
    assert not any(loss.where.startswith("audit.") for loss in planned)
    with pytest.raises(SchemaMismatch, match=f"older revision {revision}"):
        open_store(url, migrate=False)
    again = open_store(url)
    with again.reading() as transaction:
        assert transaction.drain(CLUSTER).unsettled == 5
    again.close()


def test_a_way_back_that_cannot_be_is_refused_by_name_and_changes_nothing(store, url, connect):
    fill(store)
    with connect() as connection:
        before = contents(connection)
    for revision, why in (("r9999", "there is no revision 'r9999'"), (HEAD, f"not newer than {HEAD}")):
        with pytest.raises(StoreError, match=why):
            downgrading.downgrade_store(url, revision)
    store.claim_shards("m1", time.time(), 10.0, MANAGED)
    with pytest.raises(StoreError, match="managers work on this store: m1"):
        downgrading.downgrade_store(url, "r0004")
    store.release_shards("m1")
    with store.transaction() as transaction:
        transaction.save_cluster(cluster(wanted_partitions=8))
    with pytest.raises(StoreError, match=f"on their way to another epoch: {CLUSTER}"):
        downgrading.downgrade_store(url, "r0004")
    with store.transaction() as transaction:
        transaction.save_cluster(cluster())
    with connect() as connection:
        assert contents(connection) == before


def test_every_revision_says_what_it_brought(store, url):
    assert downgrading.schema_of(url) == HEAD
    assert REVISIONS[0] == HEAD
    assert all(each.summary for each in downgrading.revisions())
