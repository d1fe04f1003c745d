"""Operations that are asked for at the same time are accepted in one transaction, each as if it were alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from manager.world import CLUSTER, announcement
from msgspec.structs import replace

from federation.contract.capabilities import Capability
from federation.contract.errors import InvalidRequest, NotFound, NotSupported
from federation.manager.auditing import Asker
from federation.manager.submission import Submission
from federation.protocol.errors import StoreUnavailable
from federation.store.sql_store import SqlTransaction


class CountingStore:
    """Counts the transactions, and can lose one of them."""

    def __init__(self, store, loses):
        self._store = store
        self.transactions = 0
        self.loses = loses

    @contextmanager
    def transaction(self):
        self.transactions += 1
        if self.transactions in self.loses:
            raise StoreUnavailable("the database cannot be used now: gone")
        with self._store.transaction() as transaction:
            yield transaction


@pytest.fixture
def world(store_url, make_world):
    world = make_world(url=store_url)
    world.furnish()
    return world


def submissions_together(world, submissions, loses=()):
    """What becomes of submissions that come while the two transactions that may run are held up; and their store."""
    accepting, submitting = world.manager.submitting._accepting, world.manager.submitting
    store = accepting._store = CountingStore(world.store, loses)
    gathering = submitting._gathering
    with ThreadPoolExecutor(len(submissions)) as threads:
        with gathering._lock:
            free, gathering._free = gathering._free, 0
        futures = []
        for number, submission in enumerate(submissions, 1):
            futures.append(threads.submit(submitting.submit, submission))
            world.until(lambda n=number: len(gathering._line) == n)
        with gathering._lock:
            gathering._free = free
            gathering._appoint()
        return [future.exception(10) or future.result() for future in futures], store


def change(name, instance, **more):
    return Submission(name=name, arguments={"instance": instance}, asked=Asker(by="ann"), **more)


def test_they_get_their_sequences_in_one_transaction_and_are_all_published_and_written_down(world):
    made = [world.create(f"web-{n}") for n in range(3)]
    wishes = [change(name, one.key) for name in ("pause", "unpause") for one in made]
    records, store = submissions_together(world, wishes)
    assert store.transactions == 1
    assert [(r.name, r.key, r.sequence) for r in records] == [
        (name, one.key, sequence) for name, sequence in (("pause", 2), ("unpause", 3)) for one in made
    ]
    assert [world.record(record) for record in records] == records
    written = {
        (entry.operation, entry.actor, entry.action, entry.subject) for entry in world.manager.auditing.records()
    }
    assert written >= {(record.id, "ann", record.name, record.key) for record in records}
    world.until(lambda: len(world.bus.published) == 9)
    for one in made:
        assert [copy.sequence for copy in world.bus.published if copy.key == one.key] == [1, 2, 3]


def test_what_cannot_be_accepted_is_refused_and_the_others_go_on(world):
    world.manager.admitting.admit(announcement(flags=frozenset(Capability) - {Capability.SUSPEND}))
    made = world.create()
    wishes = [
        change("pause", made.key),
        change("suspend", made.key),
        change("pause", "0198d3f4-0000-7000-8000-000000000000"),
        change("pause", made.key, cluster="nowhere"),
        change("pause", made.key, deadline_seconds=-1.0),
        change("unpause", made.key),
    ]
    replies, store = submissions_together(world, wishes)
    assert store.transactions == 1
    assert [type(reply) for reply in replies[1:5]] == [NotSupported, NotFound, NotFound, InvalidRequest]
    assert [(replies[n].name, replies[n].sequence) for n in (0, 5)] == [("pause", 2), ("unpause", 3)]
    assert len(world.manager.operating.operations()) == 3


def test_one_idempotency_key_makes_one_operation_also_within_a_group(world):
    made, other = world.create(), world.create("web-2")
    wishes = [
        change("pause", made.key, idempotency_key="once"),
        change("pause", other.key),
        change("pause", made.key, idempotency_key="once"),
        change("pause", other.key, idempotency_key="once"),
    ]
    replies, store = submissions_together(world, wishes)
    assert store.transactions == 5, "the group, which the store refuses, then each alone"
    assert replies[0] == replies[2]
    assert isinstance(replies[3], InvalidRequest)
    assert [(replies[n].key, replies[n].sequence) for n in (0, 1)] == [(made.key, 2), (other.key, 2)]
    again, store = submissions_together(world, [wishes[0], change("unpause", made.key)])
    assert store.transactions == 1
    assert (again[0], again[1].sequence) == (replies[0], 3)


def test_each_cluster_of_a_group_keeps_its_own_rules(world):
    made = world.create()
    world.manager.estate.create_cluster("other", "simulated", 4)
    flags = frozenset(Capability) - {Capability.PAUSE}
    world.manager.admitting.admit(announcement("w9", flags=flags, cluster="other"))
    with world.store.transaction() as transaction:
        (instance,) = transaction.instances(CLUSTER, None, 1)
        there = replace(instance, id="0198d3f4-0000-7000-8000-000000000001", cluster="other")
        transaction.add_instance(there)
    replies, store = submissions_together(
        world, [change("pause", there.id), change("pause", made.key), change("power_off", there.id)]
    )
    assert store.transactions == 1
    assert isinstance(replies[0], NotSupported)
    assert [(replies[n].cluster, replies[n].sequence) for n in (1, 2)] == [(CLUSTER, 2), ("other", 1)]


def test_when_the_store_is_lost_nobody_is_told_that_it_was_accepted_and_nothing_is_tried_again(world):
    """The transaction may have been committed: whoever asks again does so with an idempotency key."""
    made = world.create()
    wishes = [change("pause", made.key), change("unpause", made.key)]
    replies, store = submissions_together(world, wishes, loses=(1,))
    assert [type(reply) for reply in replies] == [StoreUnavailable] * 2
    assert store.transactions == 1
    assert world.change("pause", made.key).sequence == 2


def test_a_fault_in_one_of_them_does_not_keep_the_others_from_being_accepted(world, monkeypatch):
    made, odd = world.create(), world.create("odd")
    known = SqlTransaction.workers
    calls = []

    def workers(self, cluster=None):
        calls.append(cluster)
        if len(calls) <= 2:
            raise ZeroDivisionError
        return known(self, cluster)

    monkeypatch.setattr(SqlTransaction, "workers", workers)
    replies, store = submissions_together(world, [change("pause", odd.key), change("pause", made.key)])
    assert store.transactions == 3
    assert isinstance(replies[0], ZeroDivisionError)
    assert (replies[1].key, replies[1].sequence) == (made.key, 2)
