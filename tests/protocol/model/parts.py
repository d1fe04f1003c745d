"""The parts of the protocol under test, and the numbers that the model runs them with.

Everything is the real thing unless a mutation replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol import answer_table, ledger
from federation.protocol.answer_table import Case, Decision, Limits
from federation.protocol.envelope import Command, Report
from federation.protocol.lease import Lease, LeaseTerms, Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, Settlement
from federation.protocol.publishing import PublisherCore
from federation.protocol.worker_core import WorkerCore, WorkerTerms

from .state import KEY

BASE = 1000.0
"""Now, on every clock, whenever a core is asked: states keep times relative to it."""

LEASE = LeaseTerms(lease=3.0, margin=1.0)
OUTCOMES = {
    "succeeded": Outcome(kind=OutcomeKind.SUCCEEDED, result={}),
    "failed": Outcome(kind=OutcomeKind.FAILED, code="cancelled"),
    "unknown": Outcome(kind=OutcomeKind.UNKNOWN, code="driver_bug"),
}


@dataclass(frozen=True)
class Parts:
    """What the model puts together; ``reach`` is the limit of DESIGN §2 in ticks: a call reaches the hypervisor this
    long after ``guard()`` at the latest."""

    answer: Callable[[Case], Decision] = answer_table.answer
    apply_report: Callable[[KeyFacts, OperationFacts, Report, Stamp], Settlement | Dropped] = ledger.apply_report
    wait_before_resolve: Callable[[KeyFacts, Stamp, LeaseTerms], float] = ledger.wait_before_resolve
    core: type[WorkerCore] = WorkerCore
    lease: type[Lease] = Lease
    publisher: type[PublisherCore] = PublisherCore
    newest_only: bool = True
    """Whether a worker takes an answer only to its newest question."""
    sweeper: bool = True
    unblocks_settled: bool = True
    """Whether the publisher calls ``settled`` for what failed and turns out to have an outcome already."""
    restamps: bool = True
    """Whether a resolve that comes too early writes down a stamp of another clock on its own."""
    reach: int = 1
    limits: Limits = field(default_factory=lambda: Limits(grants=3, gap_rounds=2, terms=LEASE))
    worker_terms: WorkerTerms = field(
        default_factory=lambda: WorkerTerms(lease=LEASE, max_operations=2, resend_after=2.0, report_retry=1.0)
    )

    @property
    def whole(self) -> int:
        """Lease and margin in ticks: how far back a stamp can be told from an older one."""
        return round(self.limits.terms.lease + self.limits.terms.margin)

    def with_terms(self, terms: LeaseTerms) -> Parts:
        """The same under another lease."""
        return replace(
            self, limits=replace(self.limits, terms=terms), worker_terms=replace(self.worker_terms, lease=terms)
        )


_commands: dict[tuple[int, int], Command] = {}


def command(sequence: int, round_: int) -> Command:
    """The command that a copy of an operation carries."""
    known = _commands.get((sequence, round_))
    if known is None:
        known = _commands[sequence, round_] = Command(
            operation=operation_id(sequence),
            name="create",
            revision=1,
            release="1.0",
            cluster="c",
            epoch=1,
            partition=0,
            key=KEY,
            sequence=sequence,
            round=round_,
            deadline=None,
            arguments={},
        )
    return known


def operation_id(sequence: int) -> str:
    """The id of an operation of the one key."""
    return f"op{sequence}"


def sequence_of(operation: str) -> int:
    """The sequence that an operation's id stands for."""
    return int(operation[2:])


def with_slow_clocks() -> Parts:
    """Terms whose margin (2) is more than the reach (1): the rest of it pays for clocks."""
    return Parts().with_terms(LeaseTerms(lease=6.0, margin=2.0))
