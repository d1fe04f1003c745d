from __future__ import annotations

import msgspec
import pytest
from store.making import CLUSTER, SHARDS, cluster, new_id, new_operation

from federation.contract.errors import NotFound
from federation.protocol.records import OperationRecord, OperationState
from federation.store.errors import StoreRefused


def test_operations_of_a_key_are_numbered_from_one_without_holes(store, accept):
    records = accept(*(new_operation("a") for _ in range(3)), new_operation("b"), new_operation("a"))
    assert [(record.key, record.sequence) for record in records] == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("a", 4)]
    with store.reading() as transaction:
        assert transaction.last_sequence("a") == 4
        assert transaction.last_sequence("nobody") == 0


def test_an_accepted_operation_is_read_back_as_it_was_given(store, accept):
    new = new_operation(deadline=99.5, requested_by="ann", trace="00-1", idempotency_key="once")
    (record,) = accept(new)
    assert record == OperationRecord(
        id=new.id,
        cluster=CLUSTER,
        name="power_on",
        revision=1,
        key="instance-1",
        sequence=1,
        partition=7,
        state=OperationState.QUEUED,
        arguments=new.arguments,
        release="1.0",
        submitted_at=new.submitted_at,
        deadline=99.5,
        requested_by="ann",
    )
    with store.reading() as transaction:
        assert transaction.operation(new.id) == record
        assert transaction.operation(new_id()) is None
        (outgoing,) = transaction.unpublished(SHARDS, 10)
    command = outgoing.command
    assert outgoing.shard == new.shard
    carried = {name: getattr(new, name) for name in ("cluster", "epoch", "name", "revision", "release", "partition")}
    assert {name: getattr(command, name) for name in carried} == carried
    assert (command.operation, command.key, command.sequence, command.round) == (new.id, "instance-1", 1, 1)
    assert (command.deadline, command.arguments, command.trace) == (99.5, new.arguments, "00-1")


def test_an_idempotency_key_gives_the_earlier_operation_of_the_cluster(store, accept):
    with store.transaction() as transaction:
        transaction.add_cluster(cluster("other"))
        assert transaction.accepted_before(CLUSTER, "once") is None
    first = new_operation("a", idempotency_key="once")
    elsewhere = new_operation("c", idempotency_key="once", cluster="other")
    again = new_operation("b", idempotency_key="once")
    records = accept(first, again, elsewhere, new_operation("a"), new_operation("b"))
    assert [record.id for record in records[:3]] == [first.id, first.id, elsewhere.id]
    assert [(record.key, record.sequence) for record in records[3:]] == [("a", 2), ("b", 1)], "a sequence was lost"
    with store.reading() as transaction:
        assert transaction.accepted_before(CLUSTER, "once") == records[0]
        assert transaction.accepted_before("other", "once") == records[2]
        assert len(transaction.unpublished(SHARDS, 10)) == 4


def test_accepting_the_same_operation_again_changes_nothing(store, accept):
    new = new_operation("a")
    first, again = accept(new, msgspec.structs.replace(new, arguments={}))
    assert again == first
    with store.reading() as transaction:
        assert transaction.last_sequence("a") == 1


def test_nothing_is_accepted_for_a_cluster_that_is_not_there(store):
    with pytest.raises(NotFound, match="no cluster nowhere"), store.transaction() as transaction:
        transaction.accept(new_operation(cluster="nowhere"))
    with store.reading() as transaction:
        assert transaction.keys(["instance-1"]) == {}


def test_an_exception_undoes_the_whole_transaction(store):
    def accept_and_fail():
        with store.transaction() as transaction:
            transaction.accept(new_operation("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        accept_and_fail()
    with store.reading() as transaction:
        assert transaction.last_sequence("a") == 0
        assert transaction.unpublished(SHARDS, 10) == []


def test_several_that_are_accepted_together_become_what_each_would_have_become_alone(store, accept):
    accept(new_operation("b"))
    new = [new_operation(key, idempotency_key=f"once {number}") for number, key in enumerate("cabacb" * 4)]
    with store.transaction() as transaction:
        together = transaction.accept_together(new)
        assert transaction.accept_together([]) == []
    assert [record.id for record in together] == [operation.id for operation in new]
    assert [record.sequence for record in together] == [
        1,
        1,
        2,
        2,
        2,
        3,
        3,
        3,
        4,
        4,
        4,
        5,
        5,
        5,
        6,
        6,
        6,
        7,
        7,
        7,
        8,
        8,
        8,
        9,
    ]
    with store.reading() as transaction:
        assert [transaction.operation(record.id) for record in together] == together
        copies = {c.operation: c for c in (each.command for each in transaction.unpublished(SHARDS, 100))}
        assert transaction.accepted_before(CLUSTER, "once 7") == together[7]
    for record in together:
        assert (copies[record.id].sequence, copies[record.id].round) == (record.sequence, 1)
        assert copies[record.id].arguments == record.arguments


@pytest.mark.parametrize("known", ["id", "idempotency key", "no cluster"])
def test_nothing_is_accepted_together_with_what_cannot_be_new(store, accept, known):
    (first,) = accept(new_operation("a", idempotency_key="once"))
    odd = {
        "id": msgspec.structs.replace(new_operation("b"), id=first.id),
        "idempotency key": new_operation("b", idempotency_key="once"),
        "no cluster": new_operation("b", cluster="nowhere"),
    }[known]
    with pytest.raises(StoreRefused, match="refused to break a rule"), store.transaction() as transaction:
        transaction.accept_together([new_operation("a"), odd, new_operation("c")])
    with store.reading() as transaction:
        assert [transaction.last_sequence(key) for key in "abc"] == [1, 0, 0]
        assert len(transaction.unpublished(SHARDS, 10)) == 1
