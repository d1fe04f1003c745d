"""The results loop: takes questions, outcomes and progress in batches, one transaction each, then answers and acks.

What it decides is decided by ``federation.protocol``; here the facts are fetched, written and sent.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from federation.contract.outcomes import Outcome
from federation.manager.clocks import Clock
from federation.manager.granting import Granting, Speech
from federation.manager.judging import Judging
from federation.manager.observing import observe_all
from federation.manager.ports import Answers, HeldResult, Meter, Results
from federation.manager.publisher import Publisher
from federation.manager.settings import ManagerSettings
from federation.manager.store_ports import Store, Transaction
from federation.protocol.answer_table import Case, Decision, answer
from federation.protocol.envelope import Answer, Progress, Question, Report
from federation.protocol.errors import StoreUnavailable
from federation.protocol.lease import Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, apply_report, settle
from federation.protocol.records import OperationRecord, OperationState, Outgoing

log = logging.getLogger(__name__)

_MOST_DELIVERIES = 10_000
"""Far above any delivery limit: what claims more would make every real delivery look stale."""


@dataclass(slots=True)
class _Batch:
    """One transaction's worth of facts, kept current while its messages are applied in order."""

    keys: dict[str, KeyFacts]
    operations: dict[str, OperationFacts]
    now: Stamp
    wall: float
    reported: dict[str, OperationRecord] = field(default_factory=dict)
    changed_keys: set[str] = field(default_factory=set)
    changed_operations: set[str] = field(default_factory=set)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    republish: set[str] = field(default_factory=set)
    answers: list[tuple[str, str, Answer]] = field(default_factory=list)

    def put(self, key: KeyFacts, operation: OperationFacts) -> None:
        """Keep changed facts for the messages behind and for the end of the transaction."""
        if self.keys.get(key.key) != key:
            self.keys[key.key] = key
            self.changed_keys.add(key.key)
        if self.operations.get(operation.id) != operation:
            self.operations[operation.id] = operation
            self.changed_operations.add(operation.id)

    def settled_reports(self) -> dict[str, OperationRecord]:
        """What the store has of reported operations once their outcomes are written."""
        return {
            id_: msgspec.structs.replace(
                self.reported[id_],
                state=OperationState(outcome.kind.value),
                finished_at=self.wall,
                outcome=outcome,
            )
            for id_, outcome in self.outcomes.items()
            if id_ in self.reported
        }

    def settle(self, operation: OperationFacts, outcome: Outcome) -> None:
        """Give an operation its outcome."""
        settlement = settle(self.keys[operation.key], operation, outcome, self.now)
        self.put(settlement.key, settlement.operation)
        self.outcomes[operation.id] = outcome


@dataclass(frozen=True, slots=True)
class _Written:
    """What has to follow a committed batch."""

    batch: _Batch
    outgoing: list[Outgoing]
    settled: list[tuple[OperationRecord, Outcome]]


class ResultsLoop:
    """See the module."""

    def __init__(  # noqa: PLR0913 (its ports and rules)
        self,
        store: Store,
        answers: Answers,
        publisher: Publisher,
        clock: Clock,
        settings: ManagerSettings,
        judging: Judging,
        granting: Granting,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._store = store
        self._answers = answers
        self._publisher = publisher
        self._clock = clock
        self._settings = settings
        self._judging = judging
        self._granting = granting
        self._results: Results[Any] | None = None
        self._inbox: queue.SimpleQueue[tuple[float, HeldResult] | None] = queue.SimpleQueue()
        self._meter: Meter | None = None
        self._thread = threading.Thread(target=self._run, name="results", daemon=True)
        self._stopping = False

    def on_result(self, held: HeldResult) -> None:
        """A message arrived (called by the bus; bounded by the consumers' prefetch)."""
        self._inbox.put((time.monotonic(), held))

    def measured_by(self, meter: Meter) -> None:
        """Tell this meter of every batch and every outcome."""
        self._meter = meter

    @property
    def waiting(self) -> int:
        """Messages that have arrived and are not applied; no more than the consumers' prefetch."""
        return self._inbox.qsize()

    def start(self, results: Results[Any]) -> None:
        """Start the thread; ``results`` settles what it has applied."""
        self._results = results
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish the batch at hand and end; what is not acknowledged comes again to another manager."""
        self._stopping = True
        self._inbox.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            batch = self._next_batch()
            if batch:
                settled = self._apply_until_written([held for _, held in batch])
                self._measure(settled, time.monotonic() - batch[0][0])

    def _next_batch(self) -> list[tuple[float, HeldResult]]:
        batch = [self._inbox.get()]
        try:
            while len(batch) < self._settings.max_batch:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            return [each for each in batch if each is not None]
        return [each for each in batch if each is not None]

    def _measure(self, settled: list[tuple[OperationRecord, Outcome]], seconds: float) -> None:
        """Tell the meter; what goes wrong there must not end the thread that applies results."""
        if self._meter is None:
            return
        try:
            for record, outcome in settled:
                self._meter.settled(record, outcome)
            self._meter.applied(seconds)
        except Exception:
            log.exception("the meter failed; what it missed is not in the metrics")

    def _apply_until_written(self, held: list[HeldResult]) -> list[tuple[OperationRecord, Outcome]]:
        """Returns what was settled."""
        while not self._stopping:
            try:
                written = self._write(held)
            except StoreUnavailable as error:
                log.warning("store unavailable, %d results wait: %s", len(held), error)
                time.sleep(self._settings.publish_retry * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
            except Exception:
                if len(held) > 1:
                    log.exception("a batch of %d results failed; applying them one by one", len(held))
                    return [each for one in held for each in self._apply_until_written([one])]
                log.exception("result dropped: it cannot be applied")
                self.counters["unusable"] += 1
                self._ack(held)
                break
            else:
                self._follow(written)
                self._ack(held)
                return written.settled
        return []

    def _write(self, held: list[HeldResult]) -> _Written:
        said = self._readable(held)
        with self._store.transaction() as transaction:
            results = self._granted(said, transaction)
            batch = _Batch(
                transaction.keys({result.key for result in results}),
                transaction.operations({result.operation for result in results}),
                self._clock.stamp(),
                self._clock.wall(),
                transaction.operations_by_id({result.operation for result in results if isinstance(result, Report)}),
            )
            for result in results:
                self._apply(result, batch, transaction)
            return self._finish(batch, transaction)

    def _readable(self, held: list[HeldResult]) -> list[tuple[Speech, Question | Report | Progress]]:
        said = []
        for one in held:
            if one.result is None:
                self.counters["unreadable"] += 1
                log.warning("unreadable result dropped: %.300r", one.error)
            else:
                said.append((Speech(one.user_id, one.result.cluster, one.result.worker), one.result))
        return said

    def _granted(
        self, said: list[tuple[Speech, Question | Report | Progress]], transaction: Transaction
    ) -> list[Question | Report | Progress]:
        """What comes from a broker user that may say it; the rest is dropped without an answer, and counted."""
        granted = self._granting.granted({speech for speech, _ in said}, transaction)
        for speech, _ in said:
            if speech not in granted:
                self._granting.drop("results", speech)
        return [result for speech, result in said if speech in granted]

    def _finish(self, batch: _Batch, transaction: Transaction) -> _Written:
        transaction.save(
            [batch.keys[key] for key in batch.changed_keys],
            [batch.operations[operation] for operation in batch.changed_operations],
            batch.outcomes,
            batch.wall,
        )
        unread = [id_ for id_ in batch.outcomes if id_ not in batch.reported]
        records = {**batch.settled_reports(), **(transaction.operations_by_id(unread) if unread else {})}
        settled = [(records[id_], outcome) for id_, outcome in batch.outcomes.items() if id_ in records]
        if settled:
            observe_all(transaction, settled, batch.wall)
        ids = [facts.id for key in batch.republish for facts in transaction.unsettled(key)]
        return _Written(batch, transaction.new_round(ids) if ids else [], settled)

    def _apply(self, result: Question | Report | Progress, batch: _Batch, transaction: Transaction) -> None:
        key, operation = batch.keys.get(result.key), batch.operations.get(result.operation)
        if key is None or operation is None or operation.key != result.key:
            self._refuse(
                result, batch, "is not in the store", "no manager accepted an operation with this id for this key"
            )
        elif (odd := _forged(result, operation)) is not None:
            self._refuse(result, batch, odd, odd)
        elif isinstance(result, Question):
            self._answer(result, key, operation, batch, transaction)
        elif isinstance(result, Report):
            self._report(result, key, operation, batch, transaction)
        else:
            transaction.progress(result.operation, result.attempt, result.percent, result.stage)

    def _refuse(self, result: Question | Report | Progress, batch: _Batch, why: str, reason: str) -> None:
        self.counters["forged"] += 1
        log.warning(
            "operation=%s key=%s %s; a message of worker=%s about it was dropped",
            _in_a_log(result.operation),
            _in_a_log(result.key),
            why,
            _in_a_log(result.worker),
        )
        if isinstance(result, Question):
            refusal = Answer(
                question=result.id, operation=result.operation, key=result.key, verdict="refused", reason=reason
            )
            batch.answers.append((result.cluster, result.worker, refusal))

    def _answer(
        self, question: Question, key: KeyFacts, operation: OperationFacts, batch: _Batch, transaction: Transaction
    ) -> None:
        if question.renews is not None and question.stage is not None:
            transaction.progress(operation.id, question.renews, question.percent, question.stage)
        case = Case(question, key, operation, batch.now, batch.wall, self._settings.limits)
        decision = answer(case)
        batch.put(decision.key, decision.operation)
        batch.answers.append((question.cluster, question.worker, decision.answer))
        self.counters[decision.answer.verdict] += 1
        self._carry_out(decision, batch, transaction)

    def _carry_out(self, decision: Decision, batch: _Batch, transaction: Transaction) -> None:
        if decision.settles is not None:
            batch.settle(decision.operation, decision.settles)
        if decision.republish:
            log.warning("key=%s has a gap at position=%d; publishing again", decision.key.key, decision.key.position)
            batch.republish.add(decision.key.key)
        if decision.parks_next is not None:
            missing = transaction.unsettled(decision.key.key)[0]
            batch.settle(batch.operations.get(missing.id, missing), decision.parks_next)

    def _report(
        self, report: Report, key: KeyFacts, operation: OperationFacts, batch: _Batch, transaction: Transaction
    ) -> None:
        applied = apply_report(key, operation, report, batch.now)
        record = None if isinstance(applied, Dropped) else batch.reported.get(operation.id)
        if record is not None:
            judged = self._judging.outcome(record, report.outcome, lambda: _driver(transaction, record.cluster))
            if judged is not report.outcome:
                applied = apply_report(key, operation, msgspec.structs.replace(report, outcome=judged), batch.now)
        if isinstance(applied, Dropped):
            self.counters["dropped_outcome"] += 1
            log.info("outcome of operation=%s attempt=%d dropped: %s", report.operation, report.attempt, applied.reason)
            return
        batch.put(applied.key, applied.operation)
        batch.outcomes[operation.id] = applied.outcome
        self.counters[f"outcome_{applied.outcome.kind}"] += 1

    def _follow(self, written: _Written) -> None:
        batch = written.batch
        for cluster, worker, reply in batch.answers:
            try:
                self._answers.answer(cluster, worker, reply)
            except Exception:
                # Whatever is wrong with one answer, the batch is written: its other answers and its acks must follow.
                log.exception("answer to worker=%.80r cannot be sent", worker)
        if written.outgoing:
            self._publisher.accepted(written.outgoing)
        if batch.outcomes:
            settled = [batch.operations[operation] for operation in batch.outcomes]
            self._publisher.settled((facts.key, facts.sequence) for facts in settled)

    def _ack(self, held: list[HeldResult]) -> None:
        if self._results is None:
            return
        for one in held:
            self._results.ack(one)


def _driver(transaction: Transaction, name: str) -> str:
    cluster = transaction.cluster(name)
    return "" if cluster is None else cluster.driver


def _in_a_log(name: str) -> str:
    """A name that nobody vouches for, on one line and not endless."""
    return name[:80].encode("unicode_escape").decode()


def _forged(result: Question | Report | Progress, operation: OperationFacts) -> str | None:
    """What a message says of an operation that cannot be so, whoever sent it; None when it fits.

    A round is written before any copy of it is sent, so a later one than ours was never published; and only workers of
    the operation's own cluster have a copy of it.
    """
    if (result.cluster, result.partition) != (operation.cluster, operation.partition):
        return f"belongs to cluster {operation.cluster}, partition {operation.partition}"
    if isinstance(result, Question | Report) and result.sequence != operation.sequence:
        return f"has the sequence {operation.sequence}, not {result.sequence}"
    if isinstance(result, Question) and not 0 < result.round <= operation.round:
        return f"was never published in round {result.round}"
    if isinstance(result, Question) and not 0 <= result.delivery_count <= _MOST_DELIVERIES:
        return f"cannot have been delivered {result.delivery_count} times"
    return None
