"""The manager's side of the protocol without a bus: durable facts, and the real answer table."""

import time
from dataclasses import replace

from worker.tiny_driver import eventually, key

from federation.contract.outcomes import Outcome
from federation.protocol.admission import Admission
from federation.protocol.answer_table import Case, Limits, answer
from federation.protocol.envelope import Answer, Command, Question, Report
from federation.protocol.lease import LeaseTerms, Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, apply_report
from federation.protocol.partition_map import partition_of

FAST = LeaseTerms(0.3, 0.06)


class Facts:
    """What a manager knows durably, and its real decisions; used by one thread at a time."""

    def __init__(self, terms: LeaseTerms = FAST, partitions: int = 2, grants: int = 5) -> None:
        self.limits = Limits(grants=grants, terms=terms)
        self.partitions = partitions
        self.epoch = 1
        self.keys: dict[str, KeyFacts] = {}
        self.operations: dict[str, OperationFacts] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.dropped: list[Report] = []
        self.verdicts: list[str] = []
        self._sequences: dict[str, int] = {}

    def accept(self, name: str = "power_on", number: int = 1, **more: object) -> Command:
        """Give an operation the next sequence of its key."""
        k = key(number)
        sequence = self._sequences[k] = self._sequences.get(k, 0) + 1
        fields = {
            "operation": f"op-{number}-{sequence}", "name": name, "revision": 1, "release": "1.0", "cluster": "c",
            "epoch": self.epoch, "partition": partition_of(k, self.partitions), "key": k, "sequence": sequence, "round": 1,
            "deadline": None, "arguments": {"instance": k},
        } | more  # fmt: skip
        command = Command(**fields)
        self.keys.setdefault(k, KeyFacts(k))
        self.operations[command.operation] = OperationFacts(command.operation, k, sequence, deadline=command.deadline)
        return command

    def answer(self, question: Question) -> Answer:
        """By the real table; what it says is remembered first."""
        case = Case(
            question,
            self.keys[question.key],
            self.operations[question.operation],
            self._now(),
            time.time(),
            self.limits,
        )
        decision = answer(case)
        self.keys[question.key], self.operations[question.operation] = decision.key, decision.operation
        self.verdicts.append(decision.answer.verdict)
        return decision.answer

    def apply(self, report: Report) -> None:
        """Apply an outcome, or drop it."""
        applied = apply_report(self.keys[report.key], self.operations[report.operation], report, self._now())
        if isinstance(applied, Dropped):
            self.dropped.append(report)
            return
        self.keys[report.key], self.operations[report.operation] = applied.key, applied.operation
        self.outcomes[report.operation] = applied.outcome

    def request_cancel(self, operation: str) -> None:
        self.operations[operation] = replace(self.operations[operation], cancel_requested=True)

    def wait(self, *operations: str, seconds: float = 10.0) -> list[Outcome]:
        eventually(lambda: all(o in self.outcomes for o in operations), f"outcomes of {operations}", seconds)
        return [self.outcomes[o] for o in operations]

    def admission(self, worker: str, heartbeat_seconds: float = 0.05) -> Admission:
        return Admission(
            worker=worker, cluster="c", epoch=self.epoch, partitions=self.partitions, pin="1.0",
            lease_seconds=self.limits.terms.lease, margin_seconds=self.limits.terms.margin,
            heartbeat_seconds=heartbeat_seconds,
        )  # fmt: skip

    def _now(self) -> Stamp:
        return Stamp("test", time.monotonic())
