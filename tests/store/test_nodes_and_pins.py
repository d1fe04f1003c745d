"""What holds a pin still, and what is written and read of nodes; on both databases."""

from __future__ import annotations

import threading

import msgspec
import pytest
from store.making import CLUSTER, ON_POSTGRESQL, UNKNOWN, cluster, new_operation, settle_head

from federation.contract.release import Release
from federation.protocol.errors import StoreUnavailable
from federation.protocol.ordering_key import node_key
from federation.protocol.records import NodeRecord
from federation.store import Limits


def a_node(name="n1", of=CLUSTER, **facts):
    return NodeRecord(cluster=of, name=name, facts={"name": name, **facts}, seen_at=5.0)


def test_a_cluster_that_is_held_steady_is_read_like_any_other(store):
    with store.transaction() as transaction:
        assert transaction.steady_cluster(CLUSTER) == cluster()
        assert transaction.steady_cluster("nowhere") is None


@ON_POSTGRESQL
def test_many_may_hold_a_cluster_steady_and_nobody_changes_its_pin_meanwhile(store, open_another):
    other = open_another(limits=Limits(patience=0.2))
    with store.transaction() as transaction:
        transaction.steady_cluster(CLUSTER)
        with other.transaction() as beside:
            assert beside.steady_cluster(CLUSTER) == cluster()
            beside.accept(new_operation())
        with pytest.raises(StoreUnavailable), other.transaction() as changing:
            changing.save_cluster(msgspec.structs.replace(cluster(), pin="1.1"))
        with pytest.raises(StoreUnavailable), other.transaction() as locking:
            locking.cluster(CLUSTER, lock=True)


def test_two_that_hold_a_cluster_steady_and_accept_on_one_key_do_not_deadlock(store, open_another):
    stores = [store, open_another()]
    failures = []

    def accepting(one):
        try:
            for _ in range(20):
                with one.transaction() as transaction:
                    transaction.steady_cluster(CLUSTER)
                    transaction.accept(new_operation("a"))
        except StoreUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=accepting, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    with store.reading() as transaction:
        assert transaction.last_sequence("a") == 40


def test_one_node_is_written_anew_without_touching_the_others(store):
    with store.transaction() as transaction:
        transaction.add_cluster(cluster("alpha"))
        transaction.save_nodes(CLUSTER, [a_node(), a_node("n2")])
        transaction.save_nodes("alpha", [a_node(of="alpha")])
        transaction.save_node(a_node(maintenance=True))
        transaction.save_node(a_node("gone"))
    with store.reading() as transaction:
        assert transaction.nodes() == [a_node(of="alpha"), a_node(maintenance=True), a_node("n2")]
        assert transaction.node(CLUSTER, "n1") == a_node(maintenance=True)
        assert transaction.node(CLUSTER, "gone") is None


def test_a_node_shows_the_operation_that_parked_it_and_its_namesake_elsewhere_does_not(store, accept):
    with store.transaction() as transaction:
        transaction.add_cluster(cluster("alpha"))
        transaction.save_nodes(CLUSTER, [a_node()])
        transaction.save_nodes("alpha", [a_node(of="alpha")])
    (operation,) = accept(new_operation(node_key(CLUSTER, "n1")))
    with store.transaction() as transaction:
        settle_head(transaction, operation.key, UNKNOWN)
    with store.reading() as transaction:
        assert [node.parked_by for node in transaction.nodes()] == [None, operation.id]
        found = transaction.node(CLUSTER, "n1")
    assert found is not None
    assert found.parked_by == operation.id


def test_the_revision_that_a_caller_speaks_is_kept_beside_the_one_that_is_sent(store, accept):
    (asked, plain) = accept(new_operation("a", revision=2, asked_revision=1), new_operation("a"))
    with store.reading() as transaction:
        assert transaction.operation(asked.id) == asked
        assert (asked.revision, asked.asked_revision) == (2, 1)
        assert transaction.operation(plain.id).asked_revision is None


def test_every_living_manager_says_which_releases_it_serves(store, wall):
    store.claim_shards("m1", wall(), 10.0, (Release(1, 0), Release(1, 0)))
    store.claim_shards("m2", wall(), 10.0, (Release(1, 0), Release(1, 2)))
    with store.reading() as transaction:
        assert sorted(transaction.managed_releases()) == [("1.0", "1.0"), ("1.0", "1.2")]
    store.release_shards("m1")
    with store.reading() as transaction:
        assert transaction.managed_releases() == [("1.0", "1.2")]
