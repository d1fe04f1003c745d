"""What the store keeps of epochs, on both databases."""

from __future__ import annotations

import pytest
from store.making import CLUSTER, UNKNOWN, cluster, granted, new_operation, settle_head, worker

from federation.contract.errors import InvalidState
from federation.protocol.records import OldEpoch


def old(epoch, **changes):
    return OldEpoch(**{"cluster": CLUSTER, "epoch": epoch, "partitions": 4, "closed_at": 9.5, **changes})


def test_a_cluster_keeps_the_partitions_that_it_wants(store):
    wanting = cluster(wanted_partitions=64, wanted_since=12.5, epoch=3)
    with store.transaction() as transaction:
        transaction.save_cluster(wanting)
    with store.reading() as transaction:
        assert transaction.cluster(CLUSTER) == wanting


def test_the_epoch_of_a_worker_is_kept_and_follows_its_heartbeats(store):
    with store.transaction() as transaction:
        transaction.save_worker(worker(epoch=1))
        assert transaction.heard_of("w1", 20.0, {}, 2)
        assert transaction.worker("w1").epoch == 2


def test_what_is_unsettled_is_counted_and_what_is_parked_with_operations_behind_is_named(store, accept):
    accept(new_operation("a"), new_operation("b"), new_operation("b"))
    (newest,) = accept(new_operation("c"))
    with store.transaction() as transaction:
        head = transaction.unsettled("c")[0]
        transaction.save([], [granted(head)], {}, 20.0)
    with store.reading() as transaction:
        drain = transaction.drain(CLUSTER)
    assert (drain.unsettled, drain.running, drain.newest, drain.blocked) == (4, 1, newest.id, ())
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN)
        settle_head(transaction, "b", UNKNOWN)
    with store.reading() as transaction:
        drain = transaction.drain(CLUSTER)
    assert (drain.unsettled, drain.blocked) == (2, ("b",))


def test_another_clusters_operations_keep_nobody_from_ending_an_epoch(store, accept):
    with store.transaction() as transaction:
        transaction.add_cluster(cluster("other"))
    accept(new_operation("a", cluster="other"))
    with store.reading() as transaction:
        assert transaction.drain(CLUSTER).unsettled == 0
        assert transaction.drain("nowhere").newest is None


def test_epochs_that_are_over_are_remembered_until_their_queues_are_gone(store):
    with store.transaction() as transaction:
        transaction.add_old_epoch(old(2))
        transaction.add_old_epoch(old(1))
        transaction.add_old_epoch(old(1, partitions=99))
        transaction.note_deleted(old(1), 11.0)
        assert transaction.old_epochs() == [old(1, deleted_at=11.0), old(2)]
        transaction.remove_old_epoch(old(1))
        assert transaction.old_epochs() == [old(2)]


def test_a_removed_cluster_takes_its_epochs_along(store, accept):
    with store.transaction() as transaction:
        transaction.add_old_epoch(old(1))
    accept(new_operation("a"))
    with pytest.raises(InvalidState), store.transaction() as transaction:
        transaction.remove_cluster(CLUSTER)
    with store.transaction() as transaction:
        settle_head(transaction, "a")
        transaction.remove_cluster(CLUSTER)
        assert transaction.old_epochs() == []


def test_what_may_be_published_again_comes_page_by_page_in_order_without_parked_keys(store, accept):
    accept(*(new_operation(key) for key in "bacabd"))
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN)
        settle_head(transaction, "c")
    with store.reading() as transaction:
        first = transaction.republishable(CLUSTER, 2)
        rest = transaction.republishable(CLUSTER, 2, (first[-1].key, first[-1].sequence))
        assert [(c.key, c.sequence) for c in [*first, *rest]] == [("b", 1), ("b", 2), ("d", 1)]
