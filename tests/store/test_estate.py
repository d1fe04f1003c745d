from __future__ import annotations

import msgspec
import pytest
from store.making import CLUSTER, UNKNOWN, cluster, granted, instance, new_operation, settle_head, worker

from federation.contract.errors import AlreadyExists, InvalidState, NotFound
from federation.protocol.records import NodeRecord, OperationState, WorkerState

replace = msgspec.structs.replace


def write(store, method, *arguments, **options):
    with store.transaction() as transaction:
        return getattr(transaction, method)(*arguments, **options)


def read(store, method, *arguments, **options):
    with store.reading() as transaction:
        return getattr(transaction, method)(*arguments, **options)


def node(name, cluster_name=CLUSTER, **facts):
    return NodeRecord(cluster=cluster_name, name=name, facts={"vcpus_total": 8, **facts}, seen_at=3.0)


# Clusters.


def test_clusters_are_added_changed_and_listed_by_name(store):
    write(store, "add_cluster", cluster("alpha"))
    changed = cluster("alpha", pin="1.0", epoch=2)
    write(store, "save_cluster", changed)
    assert read(store, "cluster", "alpha") == changed
    assert read(store, "cluster", "nowhere") is None
    assert write(store, "cluster", "alpha", lock=True) == changed
    assert [one.name for one in read(store, "clusters")] == ["alpha", CLUSTER]


def test_a_cluster_name_is_taken_once(store):
    with pytest.raises(AlreadyExists, match=CLUSTER):
        write(store, "add_cluster", cluster(driver="other"))
    assert read(store, "cluster", CLUSTER) == cluster()
    with pytest.raises(NotFound, match="nowhere"):
        write(store, "save_cluster", cluster("nowhere"))


def test_a_removed_cluster_takes_its_workers_nodes_and_history_with_it(store, accept):
    write(store, "add_cluster", cluster("stays"))
    for name in (CLUSTER, "stays"):
        accept(new_operation(f"key-{name}", cluster=name))
        write(store, "save_worker", worker(f"w-{name}", cluster=name))
        write(store, "save_nodes", name, [node("n1", name)])
        with store.transaction() as transaction:
            settle_head(transaction, f"key-{name}")
    write(store, "remove_cluster", CLUSTER)
    assert [one.name for one in read(store, "clusters")] == ["stays"]
    assert [one.id for one in read(store, "workers")] == ["w-stays"]
    assert [one.cluster for one in read(store, "nodes")] == ["stays"]
    assert [one.key for one in read(store, "operation_records")] == ["key-stays"]
    assert set(read(store, "keys", [f"key-{CLUSTER}", "key-stays"])) == {"key-stays"}
    with pytest.raises(NotFound, match=CLUSTER):
        write(store, "remove_cluster", CLUSTER)


def test_a_cluster_with_instances_or_open_operations_is_not_removed(store, accept):
    accept(new_operation("a"))
    with pytest.raises(InvalidState, match="not settled"):
        write(store, "remove_cluster", CLUSTER)
    with store.transaction() as transaction:
        settle_head(transaction, "a")
        transaction.add_instance(instance("i1", "vm"))
    with pytest.raises(InvalidState, match="instances"):
        write(store, "remove_cluster", CLUSTER)
    write(store, "remove_instance", "i1")
    write(store, "remove_cluster", CLUSTER)
    assert read(store, "clusters") == []


def test_queued_releases_are_those_of_unsettled_operations(store, accept):
    write(store, "add_cluster", cluster("other"))
    accept(new_operation("a", release="1.0"), new_operation("a", release="1.1"), new_operation("b", release="1.1"))
    accept(new_operation("c", release="2.0", cluster="other"))
    assert read(store, "queued_releases", CLUSTER) == {"1.0", "1.1"}
    with store.transaction() as transaction:
        settle_head(transaction, "a")
    assert read(store, "queued_releases", CLUSTER) == {"1.1"}


def test_an_inventory_is_replaced_as_a_whole(store):
    write(store, "add_cluster", cluster("alpha"))
    write(store, "save_nodes", CLUSTER, [node("n2"), node("n1", message="ü")])
    write(store, "save_nodes", "alpha", [node("n1", "alpha")])
    assert read(store, "nodes", CLUSTER) == [node("n1", message="ü"), node("n2")]
    write(store, "save_nodes", CLUSTER, [node("n3")])
    assert [(one.cluster, one.name) for one in read(store, "nodes")] == [("alpha", "n1"), (CLUSTER, "n3")]
    write(store, "save_nodes", CLUSTER, [])
    assert read(store, "nodes", CLUSTER) == []
    with pytest.raises(NotFound, match="nowhere"):
        write(store, "save_nodes", "nowhere", [node("n1", "nowhere")])


# Workers.


def test_workers_are_added_replaced_and_listed_by_cluster_and_id(store):
    write(store, "add_cluster", cluster("alpha"))
    for record in (worker("w2"), worker("w1"), worker("w9", cluster="alpha")):
        write(store, "save_worker", record)
    again = worker("w1", pid=99, driver_version="0.2.0", load={})
    write(store, "save_worker", again)
    assert read(store, "worker", "w1") == again
    assert read(store, "worker", "nobody") is None
    assert [one.id for one in read(store, "workers")] == ["w9", "w1", "w2"]
    assert [one.id for one in read(store, "workers", CLUSTER)] == ["w1", "w2"]


def test_only_admitted_and_draining_workers_are_heard_of(store):
    for state in WorkerState:
        write(store, "save_worker", worker(f"w-{state.value}", state=state))
        heard = write(store, "heard_of", f"w-{state.value}", 50.0, {"running": 7.0})
        assert heard == (state in {WorkerState.ADMITTED, WorkerState.DRAINING})
        record = read(store, "worker", f"w-{state.value}")
        assert (record.last_seen, record.load) == ((50.0, {"running": 7.0}) if heard else (10.0, {"running": 2.0}))
    assert not write(store, "heard_of", "nobody", 50.0, {})


def test_silent_workers_are_marked_lost_once(store):
    for id_, state, seen in (("a", "admitted", 5), ("b", "draining", 5), ("c", "left", 5), ("d", "admitted", 9)):
        write(store, "save_worker", worker(id_, state=WorkerState(state), last_seen=float(seen)))
    assert write(store, "mark_lost", 9.0) == ["a", "b"]
    assert write(store, "mark_lost", 9.0) == []
    assert [one.state.value for one in read(store, "workers")] == ["lost", "lost", "left", "admitted"]


def test_a_workers_state_is_written(store):
    write(store, "save_worker", worker("w1"))
    write(store, "set_worker_state", "w1", WorkerState.DRAINING)
    assert read(store, "worker", "w1").state is WorkerState.DRAINING
    with pytest.raises(NotFound, match="nobody"):
        write(store, "set_worker_state", "nobody", WorkerState.LEFT)


# Instances.


def test_instances_are_added_changed_and_forgotten(store):
    write(store, "add_instance", instance("i1", "vm"))
    changed = instance("i1", "vm", state="running", observed={"power_state": "running"}, parked_by="o1", updated_at=9.0)
    write(store, "save_instance", changed)
    assert read(store, "instance", "i1") == changed
    assert write(store, "instance", "i1", lock=True) == changed
    write(store, "remove_instance", "i1")
    write(store, "remove_instance", "i1")
    assert read(store, "instance", "i1") is None
    with pytest.raises(NotFound, match="i1"):
        write(store, "save_instance", changed)


def test_an_instances_id_is_taken_once_and_its_name_once_in_a_cluster(store):
    write(store, "add_cluster", cluster("alpha"))
    write(store, "add_instance", instance("i1", "vm"))
    with pytest.raises(AlreadyExists, match="instance i1 already"):
        write(store, "add_instance", instance("i1", "other"))
    with pytest.raises(AlreadyExists, match=f"named vm in cluster {CLUSTER}"):
        write(store, "add_instance", instance("i2", "vm"))
    write(store, "add_instance", instance("i3", "vm", cluster="alpha"))
    write(store, "add_instance", instance("i2", "other"))
    with pytest.raises(AlreadyExists, match="named vm"):
        write(store, "save_instance", instance("i2", "vm"))
    with pytest.raises(NotFound, match="nowhere"):
        write(store, "add_instance", instance("i4", "vm4", cluster="nowhere"))
    assert [one.id for one in read(store, "instances_named", "vm")] == ["i3", "i1"]
    assert [one.id for one in read(store, "instances_named", "vm", CLUSTER)] == ["i1"]
    assert read(store, "instances_named", "nothing") == []


def test_a_taken_name_leaves_the_transaction_usable(store):
    write(store, "add_instance", instance("i1", "vm"))
    with store.transaction() as transaction:
        with pytest.raises(AlreadyExists):
            transaction.add_instance(instance("i2", "vm"))
        transaction.add_instance(instance("i2", "vm2"))
    assert read(store, "instance", "i2") is not None


def test_instances_are_listed_page_by_page(store):
    write(store, "add_cluster", cluster("alpha"))
    for number in range(5):
        write(store, "add_instance", instance(f"i{number}", f"vm{number}", cluster=["alpha", CLUSTER][number % 2]))
    assert [one.id for one in read(store, "instances", None, None, 3)] == ["i0", "i1", "i2"]
    assert [one.id for one in read(store, "instances", None, "i2", 3)] == ["i3", "i4"]
    assert [one.id for one in read(store, "instances", CLUSTER, None, 3)] == ["i1", "i3"]
    assert [one.id for one in read(store, "instances", CLUSTER, "i1", 3)] == ["i3"]


def test_what_is_taken_on_a_node_is_the_sum_of_its_instances(store):
    write(store, "add_cluster", cluster("alpha"))
    write(store, "add_instance", instance("i1", "a", vcpus=2, memory_bytes=1 << 40))
    write(store, "add_instance", instance("i2", "b", vcpus=3, memory_bytes=1 << 40))
    write(store, "add_instance", instance("i3", "c", node="node-2", vcpus=1, memory_bytes=5))
    write(store, "add_instance", instance("i4", "d", cluster="alpha"))
    assert read(store, "taken", CLUSTER) == {"node-1": (5, 1 << 41), "node-2": (1, 5)}
    assert read(store, "taken", "nowhere") == {}


# Operations, for people.


def test_operations_are_listed_newest_first_and_filtered(store, accept):
    write(store, "add_cluster", cluster("alpha"))
    a1, b1, a2, other = accept(
        new_operation("a"), new_operation("b"), new_operation("a"), new_operation("c", cluster="alpha")
    )
    with store.transaction() as transaction:
        settle_head(transaction, "b", UNKNOWN)
        settle_head(transaction, "a")

    def listed(**filters):
        return [one.id for one in read(store, "operation_records", **filters)]

    assert listed() == [other.id, a2.id, b1.id, a1.id]
    assert listed(limit=2) == [other.id, a2.id]
    assert listed(before=a2.id) == [b1.id, a1.id]
    assert listed(cluster=CLUSTER) == [a2.id, b1.id, a1.id]
    assert listed(cluster=CLUSTER, before=b1.id, limit=1) == [a1.id]
    assert listed(key="a") == [a2.id, a1.id]
    assert listed(key="a", state=OperationState.QUEUED) == [a2.id]
    assert listed(state=OperationState.UNKNOWN) == [b1.id]
    assert listed(state=OperationState.QUEUED) == [other.id, a2.id]
    assert listed(state=OperationState.SUCCEEDED) == [a1.id]
    assert listed(state=OperationState.QUEUED, cluster="alpha", key="c") == [other.id]
    assert listed(state=OperationState.RUNNING) == []


def test_counts_are_by_cluster_and_state_and_of_parked_keys(store, accept):
    write(store, "add_cluster", cluster("alpha"))
    records = accept(*(new_operation(key) for key in ("a", "a", "b", "c", "d")))
    with store.transaction() as transaction:
        settle_head(transaction, "a")
        settle_head(transaction, "b", UNKNOWN)
        transaction.save([], [granted(transaction.operations([records[3].id])[records[3].id])], {}, 1.0)
    assert read(store, "counts") == {
        "alpha": {"parked": 0},
        CLUSTER: {"parked": 1, "succeeded": 1, "unknown": 1, "running": 1, "queued": 2},
    }
