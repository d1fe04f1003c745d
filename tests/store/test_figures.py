"""What stands where, counted from the unsettled rows."""

from store.making import CLUSTER, UNKNOWN, cluster, granted, new_operation, settle_head

from federation.protocol.figures import PartitionFigures


def figures(store):
    with store.reading() as transaction:
        return {(each.cluster, each.partition): each for each in transaction.partition_figures()}


def run(store, operation, worker="w1", now=30.0):
    with store.transaction() as transaction:
        transaction.keys([operation.key])
        facts = transaction.operations([operation.id])[operation.id]
        transaction.save([], [granted(facts, worker_id=worker)], {}, now)


def test_an_empty_store_has_nothing_to_tell(store):
    assert figures(store) == {}


def test_waiting_and_running_operations_are_told_by_partition(store, accept):
    (first,) = accept(new_operation("a", partition=3, submitted_at=10.0))
    accept(new_operation("a", partition=3, submitted_at=20.0))
    accept(new_operation("b", partition=3, submitted_at=15.0))
    accept(new_operation("c", partition=4, submitted_at=12.0))
    run(store, first)
    assert figures(store) == {
        (CLUSTER, 3): PartitionFigures(
            cluster=CLUSTER, partition=3, waiting=2, running=1, oldest_waiting_at=15.0, running_since=30.0, worker="w1"
        ),
        (CLUSTER, 4): PartitionFigures(cluster=CLUSTER, partition=4, waiting=1, oldest_waiting_at=12.0),
    }


def test_what_stands_behind_a_parked_operation_waits_for_nobody(store, accept):
    accept(new_operation("a", partition=3, submitted_at=10.0))
    accept(new_operation("a", partition=3, submitted_at=11.0))
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN)
    assert figures(store)[CLUSTER, 3] == PartitionFigures(cluster=CLUSTER, partition=3, behind_parked=1, parked=1)


def test_a_parked_key_is_told_also_where_nothing_stands_behind_it(store, accept):
    accept(new_operation("a", partition=5))
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN)
    assert figures(store) == {(CLUSTER, 5): PartitionFigures(cluster=CLUSTER, partition=5, parked=1)}


def test_clusters_are_kept_apart_and_settled_operations_are_left_out(store, accept):
    with store.transaction() as transaction:
        transaction.add_cluster(cluster("other"))
    accept(new_operation("a", partition=3))
    accept(new_operation("b", partition=3, cluster="other"))
    with store.transaction() as transaction:
        settle_head(transaction, "a")
    assert set(figures(store)) == {("other", 3)}


def test_durations_are_those_of_what_workers_finished_last(store, accept):
    for number, began in enumerate((10.0, 12.0, 14.0)):
        (operation,) = accept(new_operation(f"k{number}"))
        run(store, operation, now=began)
        with store.transaction() as transaction:
            settle_head(transaction, f"k{number}", now=began + number + 1)
    accept(new_operation("never granted"))
    with store.transaction() as transaction:
        settle_head(transaction, "never granted")
    with store.reading() as transaction:
        assert transaction.last_durations(CLUSTER, 3) == [3.0, 2.0], "the newest was never granted"
        assert transaction.last_durations("nowhere", 2) == []


def test_the_outbox_is_told_by_shard(store, accept):
    accept(new_operation("a", shard=1, submitted_at=10.0))
    accept(new_operation("b", shard=1, submitted_at=9.0))
    accept(new_operation("c", shard=2, submitted_at=5.0))
    with store.reading() as transaction:
        assert transaction.outbox_figures({1}) == (2, 9.0)
        assert transaction.outbox_figures({1, 2}) == (3, 5.0)
        assert transaction.outbox_figures({7}) == (0, None)
        assert transaction.outbox_figures(set()) == (0, None)
