from __future__ import annotations

from dataclasses import replace

import pytest
from store.making import SHARDS, SUCCEEDED, UNKNOWN, granted, new_operation, settle_head

from federation.contract.errors import NotFound
from federation.protocol.lease import Stamp
from federation.protocol.ledger import KeyFacts, OperationFacts, refused_by_resolve, resolve
from federation.protocol.records import OperationState
from federation.store import UnknownRow


def facts_of(store, id_):
    with store.reading() as transaction:
        return transaction.operations([id_])[id_]


def record_of(store, id_):
    with store.reading() as transaction:
        return transaction.operation(id_)


def grant(store, id_, now=15.0, **changes):
    with store.transaction() as transaction:
        facts = transaction.operations([id_])[id_]
        transaction.keys([facts.key])
        given = replace(granted(facts), **changes)
        transaction.save([], [given], {}, now)
    return given


def test_facts_of_a_new_key_and_a_new_operation(store, accept):
    (record,) = accept(new_operation("a", deadline=3.5))
    with store.transaction() as transaction:
        assert transaction.keys(["a", "never", "a"]) == {"a": KeyFacts("a")}
        expected = OperationFacts(id=record.id, key="a", sequence=1, deadline=3.5)
        assert transaction.operations([record.id, "never"]) == {record.id: expected}
        assert transaction.unsettled("a") == [expected]
        assert transaction.keys([]) == {}
        assert transaction.operations([]) == {}


def test_hundreds_of_facts_are_read_and_written_at_once(store):
    keys = [f"key-{n:03}" for n in range(300)]
    with store.transaction() as transaction:
        records = [transaction.accept(new_operation(key)) for key in keys]
    with store.transaction() as transaction:
        assert set(transaction.keys(keys)) == set(keys)
        found = transaction.operations([record.id for record in records])
        transaction.save([], [granted(facts) for facts in found.values()], {}, 12.0)
    with store.reading() as transaction:
        found = transaction.operations([record.id for record in records])
        assert {facts.attempt for facts in found.values()} == {1}
        assert len(found) == 300


def test_a_granted_operation_is_running_since_its_first_grant_on_the_worker_of_its_last(store, accept):
    (record,) = accept(new_operation())
    first = grant(store, record.id, now=15.0)
    assert facts_of(store, record.id) == first
    second = grant(store, record.id, now=18.0, worker="w2", granted_question="q2")
    assert second.attempt == 2
    assert facts_of(store, record.id) == second
    running = record_of(store, record.id)
    assert (running.state, running.worker, running.attempt) == (OperationState.RUNNING, "w2", 2)
    assert (running.started_at, running.finished_at, running.outcome) == (15.0, None, None)


def test_a_settled_operation_has_its_outcome_and_leaves_the_outbox(store, accept):
    first, second = accept(new_operation("a"), new_operation("a"))
    grant(store, first.id)
    with store.transaction() as transaction:
        settle_head(transaction, "a", now=20.0)
    done = record_of(store, first.id)
    assert (done.state, done.outcome, done.started_at, done.finished_at) == (
        OperationState.SUCCEEDED,
        SUCCEEDED,
        15.0,
        20.0,
    )
    assert facts_of(store, first.id).settled
    with store.reading() as transaction:
        assert transaction.keys(["a"])["a"].position == 1
        assert [facts.id for facts in transaction.unsettled("a")] == [second.id]
        assert [outgoing.command.operation for outgoing in transaction.unpublished(SHARDS, 9)] == [second.id]


def test_grant_and_outcome_of_one_batch_are_written_together(store, accept):
    (record,) = accept(new_operation("a"))
    with store.transaction() as transaction:
        key = transaction.keys(["a"])["a"]
        settled = replace(granted(transaction.operations([record.id])[record.id]), settled=True)
        transaction.save([replace(key, position=1)], [settled], {record.id: SUCCEEDED}, 30.0)
    done = record_of(store, record.id)
    assert (done.state, done.attempt, done.started_at, done.finished_at) == (OperationState.SUCCEEDED, 1, 30.0, 30.0)
    assert facts_of(store, record.id) == settled


def test_every_kind_of_outcome_is_the_operations_state(store, accept):
    for kind in ("succeeded", "failed", "refused", "unknown"):
        (record,) = accept(new_operation(f"key-{kind}"))
        outcome = type(SUCCEEDED)(kind=kind_of(kind), code="timed_out", message="slow", detail={"limit": "3"})
        with store.transaction() as transaction:
            settle_head(transaction, f"key-{kind}", outcome)
        done = record_of(store, record.id)
        assert (done.state.value, done.outcome) == (kind, outcome)
        assert done.state.settled


def kind_of(name):
    return type(SUCCEEDED.kind)(name)


def test_an_unknown_outcome_parks_the_key_and_resolving_refuses_what_waits(store, accept):
    first, second, third = accept(*(new_operation("a") for _ in range(3)))
    with store.transaction() as transaction:
        settle_head(transaction, "a", UNKNOWN, now=20.0)
    with store.transaction() as transaction:
        parked = transaction.keys(["a"])["a"]
        assert parked == KeyFacts("a", 1, first.id, Stamp("boot-1", 20.0))
        waiting = transaction.unsettled("a")
        assert [facts.sequence for facts in waiting] == [2, 3]
        outcomes = {facts.id: refused_by_resolve(first.id) for facts in waiting}
        resolved = resolve(parked, transaction.last_sequence("a"))
        transaction.save([resolved], [replace(facts, settled=True) for facts in waiting], outcomes, 40.0)
        transaction.resolution(first.id, "abandoned")
        retried = transaction.accept(new_operation("a"))
    assert retried.sequence == 4
    assert record_of(store, first.id).resolution == "abandoned"
    assert [record_of(store, one.id).state.value for one in (second, third)] == ["refused", "refused"]
    with store.reading() as transaction:
        assert transaction.keys(["a"])["a"] == KeyFacts("a", 3)
        assert [facts.id for facts in transaction.unsettled("a")] == [retried.id]


def test_what_is_settled_stays_as_it_is(store, accept):
    (record,) = accept(new_operation("a"))
    with store.transaction() as transaction:
        settle_head(transaction, "a")
    before = record_of(store, record.id)
    with store.transaction() as transaction:
        facts = transaction.operations([record.id])[record.id]
        transaction.save([], [replace(facts, attempt=9)], {}, 50.0)
        transaction.progress(record.id, 0, 50.0, "late")
        assert transaction.request_cancel(record.id) == before
    assert record_of(store, record.id) == before
    with pytest.raises(UnknownRow), store.transaction() as transaction:
        transaction.save([], [replace(facts, attempt=9)], {record.id: UNKNOWN}, 50.0)
    assert record_of(store, record.id) == before


def test_facts_of_unknown_rows_are_refused_and_nothing_is_written(store, accept):
    (record,) = accept(new_operation("a"))
    known, unknown = facts_of(store, record.id), OperationFacts(id="never", key="a", sequence=9)
    with pytest.raises(UnknownRow, match="never"), store.transaction() as transaction:
        transaction.save([], [granted(known), granted(unknown)], {}, 1.0)
    with pytest.raises(UnknownRow, match="nobody"), store.transaction() as transaction:
        transaction.save([KeyFacts("nobody", 1)], [granted(known)], {}, 1.0)
    assert facts_of(store, record.id).attempt == 0


def test_an_outcome_needs_settled_facts(store, accept):
    (record,) = accept(new_operation("a"))
    facts = facts_of(store, record.id)
    for given in ([], [facts]):
        with pytest.raises(ValueError, match=record.id), store.transaction() as transaction:
            transaction.save([], given, {record.id: SUCCEEDED}, 1.0)


def test_a_cancel_wish_survives_the_save_of_facts_read_before_it(store, accept):
    (record,) = accept(new_operation("a"))
    read_before = facts_of(store, record.id)
    with store.transaction() as transaction:
        cancelled = transaction.request_cancel(record.id)
        assert cancelled is not None
        assert cancelled.cancel_requested
        assert transaction.request_cancel("never") is None
    with store.transaction() as transaction:
        transaction.keys(["a"])
        transaction.save([], [granted(read_before)], {}, 2.0)
    assert facts_of(store, record.id).cancel_requested


def test_a_new_round_survives_the_save_of_facts_read_before_it(store, accept):
    (record,) = accept(new_operation("a"))
    read_before = facts_of(store, record.id)
    with store.transaction() as transaction:
        transaction.new_round([record.id])
    with store.transaction() as transaction:
        transaction.save([], [granted(read_before)], {}, 2.0)
    assert facts_of(store, record.id).round == 2


def test_progress_of_the_newest_attempt_is_kept_until_the_next_one(store, accept):
    (record,) = accept(new_operation("a"))
    grant(store, record.id)
    with store.transaction() as transaction:
        transaction.progress(record.id, 1, 40.0, "copying")
        transaction.progress(record.id, 7, 99.0, "of another attempt")
    shown = record_of(store, record.id)
    assert (shown.percent, shown.stage) == (40.0, "copying")
    with store.transaction() as transaction:
        renewed = replace(transaction.operations([record.id])[record.id], last_answer=Stamp("boot-1", 80.0))
        transaction.save([], [renewed], {}, 16.0)
    assert record_of(store, record.id).percent == 40.0, "a renewal is no new attempt"
    grant(store, record.id)
    shown = record_of(store, record.id)
    assert (shown.percent, shown.stage) == (None, None)


def test_a_resolution_of_an_operation_that_is_not_there_is_refused(store):
    with pytest.raises(NotFound, match="never"), store.transaction() as transaction:
        transaction.resolution("never", "accepted")
