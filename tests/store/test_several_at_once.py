"""Several threads and several stores (as several managers are) on one database."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import text
from store.making import ON_POSTGRESQL, SHARDS, SUCCEEDED, granted, new_operation

from federation.protocol.errors import StoreUnavailable
from federation.store import Limits


@pytest.fixture
def stores(store, open_another):
    return [store, open_another()]


def side_by_side(*actions):
    """Run the actions in threads that start together; raises what one of them raised."""
    start = threading.Barrier(len(actions))

    def run(action):
        start.wait(10)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result(60) for future in [pool.submit(run, action) for action in actions]]


def test_sequences_have_no_holes_and_no_doubles_when_two_managers_accept_on_one_key(stores):
    def accepting(store):
        def run():
            found = []
            for _ in range(15):
                with store.transaction() as transaction:
                    found.append(transaction.accept(new_operation("a")).sequence)
            return found

        return run

    found = side_by_side(*(accepting(store) for store in [*stores, *stores]))
    assert sorted(number for numbers in found for number in numbers) == list(range(1, 61))
    assert all(numbers == sorted(numbers) for numbers in found)


def test_one_idempotency_key_given_to_two_managers_at_once_makes_one_operation(stores):
    def accepting(store, name, number):
        def run():
            with store.transaction() as transaction:
                return transaction.accept(new_operation(f"{name}-{number}", idempotency_key=f"once-{number}")).id

        return run

    for number in range(10):
        ids = side_by_side(accepting(stores[0], "a", number), accepting(stores[1], "b", number))
        assert len(set(ids)) == 1
    with stores[0].reading() as transaction:
        assert len(transaction.unpublished(SHARDS, 100)) == 10
        sequences = [transaction.last_sequence(f"{name}-{n}") for n in range(10) for name in "ab"]
    assert sorted(sequences) == [0] * 10 + [1] * 10


def test_what_is_read_by_key_stays_locked_until_the_transaction_ends(stores):
    for method in ("keys", "unsettled", "last_sequence"):
        key = f"key-{method}"
        with stores[0].transaction() as transaction:
            transaction.accept(new_operation(key))

        def counting(store, key=key, method=method):
            def run():
                for _ in range(20):
                    with store.transaction() as transaction:
                        getattr(transaction, method)([key] if method == "keys" else key)
                        facts = transaction.keys([key])[key]
                        transaction.save([replace(facts, gap_rounds=facts.gap_rounds + 1)], [], {}, 1.0)

            return run

        side_by_side(*(counting(store) for store in stores))
        with stores[0].reading() as transaction:
            assert transaction.keys([key])[key].gap_rounds == 40, f"{method} lost an update"


def test_keys_given_in_any_order_do_not_deadlock(stores):
    keys = [f"key-{number}" for number in range(8)]
    with stores[0].transaction() as transaction:
        for key in keys:
            transaction.accept(new_operation(key))

    def locking(store, order):
        def run():
            for _ in range(25):
                with store.transaction() as transaction:
                    found = transaction.keys(order)
                    transaction.save([replace(facts, gap_rounds=1) for facts in found.values()], [], {}, 1.0)

        return run

    side_by_side(locking(stores[0], keys), locking(stores[1], keys[::-1]))


def test_confirms_rounds_answers_and_cancels_of_the_same_operations_do_not_deadlock(stores):
    with stores[0].transaction() as transaction:
        ids = [transaction.accept(new_operation(f"key-{number}")).id for number in range(12)]
    keys = [f"key-{number}" for number in range(12)]

    def publishing(transaction, _turn):
        renewed = transaction.new_round(ids[::-1])
        transaction.confirmed([(one.command.operation, one.command.round) for one in renewed[::-1]])

    def answering(transaction, turn):
        transaction.keys(keys)
        facts = transaction.operations(ids)
        transaction.save([], [granted(facts[id_], f"q{turn}") for id_ in ids[::-1]], {}, 1.0)

    def telling(transaction, _turn):
        for id_ in ids:
            transaction.request_cancel(id_)

    def repeatedly(store, action):
        def run():
            for turn in range(15):
                with store.transaction() as transaction:
                    action(transaction, turn)

        return run

    actions = [(stores[0], publishing), (stores[1], publishing), (stores[0], answering), (stores[1], telling)]
    side_by_side(*(repeatedly(store, action) for store, action in actions))
    with stores[0].reading() as transaction:
        facts = transaction.operations(ids).values()
    assert {(one.round, one.attempt, one.cancel_requested) for one in facts} == {(31, 15, True)}


def test_a_settled_operation_is_not_published_again_by_a_sweep_that_runs_beside(stores):
    for number in range(20):
        key = f"key-{number}"
        with stores[0].transaction() as transaction:
            id_ = transaction.accept(new_operation(key)).id

        def settling(key=key, id_=id_):
            with stores[0].transaction() as transaction:
                facts = transaction.keys([key])[key]
                settled = replace(transaction.operations([id_])[id_], settled=True)
                transaction.save([replace(facts, position=1)], [settled], {id_: SUCCEEDED}, 1.0)

        def sweeping(id_=id_):
            with stores[1].transaction() as transaction:
                transaction.new_round([id_])

        side_by_side(settling, sweeping)
    with stores[0].reading() as transaction:
        assert transaction.unpublished(SHARDS, 100) == []


def test_readers_see_one_moment_while_others_write(stores):
    with stores[0].transaction() as transaction:
        transaction.accept(new_operation("a"))
    with stores[0].reading() as reader:
        assert reader.last_sequence("a") == 1
        with stores[1].transaction() as transaction:
            transaction.accept(new_operation("a"))
        assert reader.last_sequence("a") == 1
        assert len(reader.operation_records()) == 1
    with stores[0].reading() as reader:
        assert reader.last_sequence("a") == 2


def test_a_cluster_that_is_locked_is_changed_by_nobody_else(stores):
    def counting(store):
        def run():
            for _ in range(15):
                with store.transaction() as transaction:
                    record = transaction.cluster("kvm-1", lock=True)
                    transaction.save_cluster(msgspec.structs.replace(record, epoch=record.epoch + 1))

        return run

    side_by_side(*(counting(store) for store in stores))
    with stores[0].reading() as transaction:
        assert transaction.cluster("kvm-1").epoch == 31


@ON_POSTGRESQL
def test_a_deadlock_of_transactions_that_break_the_lock_order_ends_as_store_unavailable_for_one(stores):
    with stores[0].transaction() as transaction:
        transaction.accept(new_operation("a"))
        transaction.accept(new_operation("b"))
    first_held = threading.Barrier(2)

    def crosswise(store, first, second):
        def run():
            try:
                with store.transaction() as transaction:
                    transaction.keys([first])
                    first_held.wait(10)
                    transaction.keys([second])
            except StoreUnavailable:
                return "unavailable"
            return "done"

        return run

    ends = side_by_side(crosswise(stores[0], "a", "b"), crosswise(stores[1], "b", "a"))
    assert sorted(ends) == ["done", "unavailable"]


@ON_POSTGRESQL
def test_the_lock_on_a_key_hinders_no_other_key(stores, open_another):
    impatient = open_another(limits=Limits(patience=1.0))
    with stores[0].transaction() as transaction:
        transaction.accept(new_operation("a"))
        with impatient.transaction() as other:
            assert other.accept(new_operation("b")).sequence == 1


def lock_keys(transaction, names):
    transaction.keys([f"key-{name}" for name in names])


def confirm(transaction, names):
    transaction.confirmed([(f"operation-{name}", 1) for name in names])


def publish_again(transaction, names):
    transaction.new_round([f"operation-{name}" for name in names])


@ON_POSTGRESQL
@pytest.mark.parametrize("lock", [lock_keys, confirm, publish_again])
def test_rows_are_locked_in_sorted_order_whatever_order_they_are_given_in(stores, open_another, lock):
    impatient = open_another(limits=Limits(patience=0.2))
    with stores[0].transaction() as transaction:
        for times, name in enumerate("cba", start=1):  # neither by age nor by length does "a" come first
            transaction.accept(new_operation(f"key-{name}", id=f"operation-{name}"))
            for _ in range(times):
                transaction.accept(new_operation(f"key-{name}"))

    def locking_all():
        with stores[1].transaction() as transaction:
            lock(transaction, "cba")

    with ThreadPoolExecutor(1) as pool:
        with stores[0].transaction() as transaction:
            lock(transaction, "b")
            waiting = pool.submit(locking_all)
            until_somebody_waits_for_a_lock(stores[0])
            with impatient.transaction() as other:
                lock(other, "c")
            with pytest.raises(StoreUnavailable), impatient.transaction() as other:
                lock(other, "a")
        waiting.result(10)


def until_somebody_waits_for_a_lock(store):
    question = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    end = time.monotonic() + 10
    while True:
        with store.reading() as transaction:
            if transaction._execute(question).scalar_one():
                return
        assert time.monotonic() < end, "nobody waits for a lock"
        time.sleep(0.01)
