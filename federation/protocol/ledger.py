"""The facts that the manager keeps of an ordering key and of an operation, and the two moves beside answering.

Positions move by exactly one, or by resolving a parked key; nothing else moves them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from federation.contract.errors import Parked
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Report
from federation.protocol.lease import LeaseTerms, Stamp, remaining_wait


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """An ordering key: an instance's UUID, or ``node:<cluster>/<name>``.

    ``position`` is the sequence of the last settled operation; ``parked_by`` the id of the operation that parked it.
    """

    key: str
    position: int = 0
    parked_by: str | None = None
    parked_at: Stamp | None = None
    gap_rounds: int = 0


@dataclass(frozen=True, slots=True)
class OperationFacts:
    """An operation as the protocol sees it.

    ``attempt`` is the newest granted attempt, 0 before the first; ``granted_copy`` is the (round, delivery count)
    that the newest grant was given to; ``last_answer`` when the newest attempt was last answered in its favour.
    ``cluster`` and ``partition`` never change: they say who may speak of it.
    """

    id: str
    key: str
    sequence: int
    round: int = 1
    settled: bool = False
    deadline: float | None = None
    cancel_requested: bool = False
    attempt: int = 0
    granted_copy: tuple[int, int] | None = None
    granted_question: str | None = None
    granted_wait: float = 0.0
    worker: str | None = None
    last_answer: Stamp | None = None
    cluster: str = field(default="", compare=False)
    partition: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """An outcome takes effect: the key's and the operation's new facts."""

    key: KeyFacts
    operation: OperationFacts
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Dropped:
    """A report that may not be applied, and why."""

    reason: str


def settle(key: KeyFacts, operation: OperationFacts, outcome: Outcome, now: Stamp) -> Settlement:
    """Move the position to the operation; an unknown outcome parks the key."""
    if operation.sequence != key.position + 1:
        message = f"operation {operation.sequence} of {key.key} cannot settle at position {key.position}"
        raise AssertionError(message)
    moved = replace(key, position=operation.sequence, gap_rounds=0)
    if outcome.kind is OutcomeKind.UNKNOWN:
        moved = replace(moved, parked_by=operation.id, parked_at=now)
    return Settlement(moved, replace(operation, settled=True), outcome)


def apply_report(key: KeyFacts, operation: OperationFacts, report: Report, now: Stamp) -> Settlement | Dropped:
    """Apply the outcome of the current attempt; drop every other (DESIGN §6.3, step 4)."""
    if operation.settled:
        return Dropped("the operation is settled already")
    if key.parked_by is not None:
        return Dropped(f"the instance is parked by operation {key.parked_by}")
    if operation.attempt == 0:
        return Dropped("no attempt of it was ever granted")
    if report.attempt != operation.attempt:
        return Dropped(f"attempt {report.attempt} was superseded by attempt {operation.attempt}")
    return settle(key, operation, report.outcome, now)


def wait_before_resolve(key: KeyFacts, now: Stamp, terms: LeaseTerms) -> float:
    """Seconds until a parked key may be resolved: by then every attempt that parking revoked has lost its lease."""
    return remaining_wait(key.parked_at, now, terms)


def restamped(key: KeyFacts, now: Stamp) -> KeyFacts:
    """The facts with ``parked_at`` on the clock that ``now`` was read from.

    A stamp of another clock (another machine, or this one before it was booted again) gives the whole wait however
    often it is asked for, so whoever refuses a resolve as too early writes this down first: from then on the wait ends.
    """
    if key.parked_by is None or (key.parked_at is not None and key.parked_at.clock == now.clock):
        return key
    return replace(key, parked_at=now)


def resolve(key: KeyFacts, last_sequence: int) -> KeyFacts:
    """Unpark; everything unsettled up to ``last_sequence`` is refused by the caller in the same transaction."""
    return replace(key, position=last_sequence, parked_by=None, parked_at=None, gap_rounds=0)


def refused_by_resolve(parked_by: str) -> Outcome:
    """The outcome of what waited behind a parked operation when an operator resolved it."""
    message = f"it waited behind operation {parked_by}, which parked the instance, and was not started"
    return Outcome(kind=OutcomeKind.REFUSED, code=Parked.code, message=message)
