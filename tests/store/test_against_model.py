"""Random histories of accepting, publishing, granting, settling and resolving, against a model of a few lists."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from store.making import CLUSTER, ON_POSTGRESQL, ON_SQLITE, SHARDS, cluster, granted, new_operation, wipe

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.lease import Stamp
from federation.protocol.ledger import KeyFacts, OperationFacts, refused_by_resolve, resolve, settle
from federation.protocol.records import OperationRecord, OperationState
from federation.store.errors import StoreRefused

KEYS = ("a", "b", "c")
SILENT_FOR = 30.0


@dataclass
class ModelOperation:
    new: object
    sequence: int
    facts: OperationFacts
    touched_at: float
    outcome: Outcome | None = None
    in_outbox: bool = True
    progress: tuple = (None, None)
    started_at: float | None = None
    finished_at: float | None = None
    resolution: str | None = None

    @property
    def state(self):
        if self.outcome is not None:
            return OperationState(self.outcome.kind.value)
        return OperationState.RUNNING if self.facts.attempt else OperationState.QUEUED

    def record(self):
        carried = ("id", "cluster", "name", "revision", "key", "partition", "arguments", "release", "submitted_at")
        return OperationRecord(
            **{name: getattr(self.new, name) for name in carried},
            sequence=self.sequence,
            state=self.state,
            round=self.facts.round,
            attempt=self.facts.attempt,
            worker=self.facts.worker,
            started_at=self.started_at,
            finished_at=self.finished_at,
            cancel_requested=self.facts.cancel_requested,
            percent=self.progress[0],
            stage=self.progress[1],
            outcome=self.outcome,
            resolution=self.resolution,
        )


@dataclass
class ModelKey:
    facts: KeyFacts
    operations: list[ModelOperation] = field(default_factory=list)
    moved_at: float = 0.0

    @property
    def unsettled(self):
        return [one for one in self.operations if one.outcome is None]


class UndoneError(Exception):
    """Ends a transaction that must leave no trace."""


def undo(fails):
    if fails:
        raise UndoneError


class StoreMachine(RuleBasedStateMachine):
    """Every rule is one transaction of the store; those that fail are not told to the model."""

    def __init__(self, store, wall):
        super().__init__()
        self.store, self.wall = store, wall
        wipe(store)
        with store.transaction() as transaction:
            transaction.add_cluster(cluster())
        self.keys: dict[str, ModelKey] = {}
        self.idempotent: dict[str, ModelOperation] = {}

    @property
    def operations(self):
        return [one for key in self.keys.values() for one in key.operations]

    def choose(self, data, of=None):
        return data.draw(st.sampled_from(of or self.operations))

    def add(self, new):
        line = self.keys.setdefault(new.key, ModelKey(KeyFacts(new.key), moved_at=self.wall.now))
        sequence = len(line.operations) + 1
        one = ModelOperation(new, sequence, OperationFacts(id=new.id, key=new.key, sequence=sequence), self.wall.now)
        line.operations.append(one)
        if new.idempotency_key is not None:
            self.idempotent[new.idempotency_key] = one
        return one

    @rule(key=st.sampled_from(KEYS), once=st.sampled_from([None, None, None, "x", "y"]), fails=st.booleans())
    def accept(self, key, once, fails):
        new = new_operation(key, idempotency_key=once, submitted_at=self.wall.now, shard=KEYS.index(key))
        try:
            with self.store.transaction() as transaction:
                record = transaction.accept(new)
                undo(fails)
        except UndoneError:
            return
        if once in self.idempotent:
            assert record == self.idempotent[once].record()
            return
        assert record == self.add(new).record()

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6), once=st.sampled_from([None, None, "x", "z"]))
    def accept_together(self, keys, once):
        ids = [once, *[None] * len(keys)]
        new = [
            new_operation(key, idempotency_key=one, submitted_at=self.wall.now, shard=KEYS.index(key))
            for key, one in zip(keys, ids, strict=False)
        ]
        try:
            with self.store.transaction() as transaction:
                records = transaction.accept_together(new)
        except StoreRefused:
            assert once in self.idempotent
            return
        assert once not in self.idempotent
        for operation, record in zip(new, records, strict=True):
            assert record == self.add(operation).record()

    @precondition(lambda self: self.operations)
    @rule(data=st.data())
    def accept_the_same_again(self, data):
        one = self.choose(data)
        with self.store.transaction() as transaction:
            assert transaction.accept(one.new) == one.record()

    @precondition(lambda self: self.operations)
    @rule(data=st.data())
    def confirm(self, data):
        chosen = data.draw(st.lists(st.sampled_from(self.operations), max_size=4))
        copies = [(one, data.draw(st.integers(1, one.facts.round))) for one in chosen]
        with self.store.transaction() as transaction:
            transaction.confirmed([(one.facts.id, round_) for one, round_ in copies])
        for one, round_ in copies:
            if round_ == one.facts.round and one.outcome is None:
                one.in_outbox, one.touched_at = False, self.wall.now

    @precondition(lambda self: self.operations)
    @rule(data=st.data(), fails=st.booleans())
    def publish_again(self, data, fails):
        chosen = data.draw(st.lists(st.sampled_from(self.operations), max_size=6))
        ids = {one.facts.id for one in chosen}
        open_ones = [one for one in self.operations if one.facts.id in ids and one.outcome is None]
        try:
            with self.store.transaction() as transaction:
                outgoing = transaction.new_round([one.facts.id for one in chosen])
                undo(fails)
        except UndoneError:
            return
        for one in open_ones:
            one.facts = replace(one.facts, round=one.facts.round + 1)
            one.in_outbox, one.touched_at = True, self.wall.now
        told = [(out.command.key, out.command.sequence, out.command.round) for out in outgoing]
        assert told == sorted((one.facts.key, one.sequence, one.facts.round) for one in open_ones)

    @precondition(lambda self: self.runnable)
    @rule(data=st.data())
    def grant(self, data):
        heads = data.draw(st.lists(st.sampled_from(self.runnable), unique_by=lambda one: one.facts.id))
        with self.store.transaction() as transaction:
            transaction.keys([one.facts.key for one in heads])
            facts = transaction.operations([one.facts.id for one in heads])
            transaction.save([], [granted(one) for one in facts.values()], {}, self.wall.now)
        for one in heads:
            one.facts, one.progress, one.touched_at = granted(one.facts), (None, None), self.wall.now
            one.started_at = one.started_at or self.wall.now

    @precondition(lambda self: self.runnable)
    @rule(data=st.data(), kind=st.sampled_from(OutcomeKind), fails=st.booleans())
    def settle(self, data, kind, fails):
        head = self.choose(data, self.runnable)
        outcome = Outcome(kind=kind, message="so it ended")
        now = Stamp("boot-1", self.wall.now)
        try:
            with self.store.transaction() as transaction:
                key = transaction.keys([head.facts.key])[head.facts.key]
                done = settle(key, transaction.operations([head.facts.id])[head.facts.id], outcome, now)
                transaction.save([done.key], [done.operation], {head.facts.id: outcome}, self.wall.now)
                undo(fails)
        except UndoneError:
            return
        line = self.keys[head.facts.key]
        done = settle(line.facts, head.facts, outcome, now)
        line.facts, head.facts, line.moved_at = done.key, done.operation, self.wall.now
        self.end(head, outcome)

    @precondition(lambda self: any(line.facts.parked_by for line in self.keys.values()))
    @rule(data=st.data())
    def resolve(self, data):
        line = self.choose(data, [line for line in self.keys.values() if line.facts.parked_by])
        parked_by = line.facts.parked_by
        refusal = refused_by_resolve(parked_by)
        with self.store.transaction() as transaction:
            key = transaction.keys([line.facts.key])[line.facts.key]
            waiting = transaction.unsettled(key.key)
            resolved = resolve(key, transaction.last_sequence(key.key))
            settled = [replace(facts, settled=True) for facts in waiting]
            transaction.save([resolved], settled, {facts.id: refusal for facts in waiting}, self.wall.now)
            transaction.resolution(parked_by, "accepted")
        next(one for one in line.operations if one.facts.id == parked_by).resolution = "accepted"
        last = len(line.operations)
        line.moved_at = self.wall.now if line.facts.position != last else line.moved_at
        line.facts = resolve(line.facts, last)
        for one in line.unsettled:
            one.facts = replace(one.facts, settled=True)
            self.end(one, refusal)

    @precondition(lambda self: self.operations)
    @rule(data=st.data())
    def cancel(self, data):
        one = self.choose(data)
        if one.outcome is None:
            one.facts = replace(one.facts, cancel_requested=True)
        with self.store.transaction() as transaction:
            assert transaction.request_cancel(one.facts.id) == one.record()

    @precondition(lambda self: self.operations)
    @rule(data=st.data(), attempt=st.integers(1, 2), percent=st.sampled_from([0.0, 50.0]))
    def tell_progress(self, data, attempt, percent):
        one = self.choose(data)
        if one.outcome is None and one.facts.attempt == attempt:
            one.progress = (percent, "copying")
        with self.store.transaction() as transaction:
            transaction.progress(one.facts.id, attempt, percent, "copying")

    @rule(seconds=st.sampled_from([1.0, SILENT_FOR, 100.0]))
    def time_passes(self, seconds):
        self.wall.now += seconds

    def end(self, one, outcome):
        one.outcome, one.finished_at, one.in_outbox = outcome, self.wall.now, False
        if one.facts.attempt:
            one.started_at = one.started_at or self.wall.now

    @property
    def runnable(self):
        return [line.unsettled[0] for line in self.keys.values() if line.unsettled and not line.facts.parked_by]

    @invariant()
    def what_decides_is_the_same(self):
        with self.store.reading() as transaction:
            assert transaction.keys(KEYS) == {name: line.facts for name, line in self.keys.items()}
            ids = [one.facts.id for one in self.operations]
            assert transaction.operations(ids) == {one.facts.id: one.facts for one in self.operations}
            for name in KEYS:
                line = self.keys.get(name, ModelKey(KeyFacts(name)))
                assert transaction.unsettled(name) == [one.facts for one in line.unsettled]
                assert transaction.last_sequence(name) == len(line.operations)

    @invariant()
    def what_has_to_be_published_is_the_same(self):
        waiting = [(one.facts.key, one.sequence, one.facts.round) for one in self.operations if one.in_outbox]
        before = self.wall.now - SILENT_FOR
        silent = {
            head.facts.id
            for head in self.runnable
            if not head.in_outbox and max(head.touched_at, self.keys[head.facts.key].moved_at) < before
        }
        with self.store.reading() as transaction:
            told = [out.command for out in transaction.unpublished(SHARDS, 1000)]
            assert [(one.key, one.sequence, one.round) for one in told] == sorted(waiting)
            assert set(transaction.stuck(SHARDS, before, 1000)) == silent

    @invariant()
    def what_people_see_is_the_same(self):
        newest = sorted((one.record() for one in self.operations), key=lambda record: record.id, reverse=True)
        counts = {"parked": sum(bool(line.facts.parked_by) for line in self.keys.values())}
        for record in newest:
            counts[record.state.value] = counts.get(record.state.value, 0) + 1
        with self.store.reading() as transaction:
            assert transaction.operation_records(limit=1000) == newest
            assert transaction.counts() == {CLUSTER: counts}


def run(store, wall, examples, steps):
    run_state_machine_as_test(
        lambda: StoreMachine(store, wall),
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


@pytest.mark.slow
@ON_SQLITE
def test_sqlite_behaves_like_the_model(store, wall):
    run(store, wall, examples=30, steps=40)


@pytest.mark.slow
@ON_POSTGRESQL
def test_postgresql_behaves_like_the_model(store, wall):
    run(store, wall, examples=10, steps=40)
