"""What happens to a worker, past tense, and the one queue that brings it to the thread that decides."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass

from federation.contract.outcomes import Outcome
from federation.protocol.admission import Admission
from federation.protocol.envelope import Answer
from federation.worker.ports import Commands, HeldCommand


@dataclass(frozen=True, slots=True)
class Handle:
    """Where a delivery goes back to when it is settled."""

    source: Commands[HeldCommand]
    held: HeldCommand


@dataclass(frozen=True, slots=True)
class Delivered:
    """A command arrived."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class Answered:
    """The manager answered a question."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A driver thread ended; None means that it was revoked."""

    call: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class ReportSettled:
    """The broker has a report, or (False) that is not certain."""

    call: int
    confirmed: bool


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """A call has something new to say about how far it is."""

    call: int


@dataclass(frozen=True, slots=True)
class ConsumerLost:
    """The broker took one partition's consumer away, or (None) the channel went."""

    reason: str
    partition: int | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The manager admitted the worker (again) under these terms."""

    admission: Admission


@dataclass(frozen=True, slots=True)
class DrainBegan:
    """Nothing new is to start; ``on_idle`` is called once when nothing runs any more.

    ``final`` means that the worker leaves; without it an admission to a new epoch ends the drain.
    """

    on_idle: Callable[[], None]
    final: bool


@dataclass(frozen=True, slots=True)
class RevocationAsked:
    """Whatever runs is to be revoked and what is held to be forgotten; ``tell`` gets the names of what ran."""

    tell: Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class LoadAsked:
    """Somebody wants the figures of now; partitions are those of the last ``seconds``, None: since None asked last."""

    tell: Callable[[dict[str, float]], None]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The thread that decides is to end."""


Event = (
    Delivered
    | Answered
    | CallEnded
    | ReportSettled
    | ProgressMade
    | ConsumerLost
    | Admitted
    | DrainBegan
    | RevocationAsked
    | LoadAsked
    | Stopped
)


class Inbox:
    """A queue that many threads and signal handlers fill and one thread empties.

    ``put`` never blocks and is reentrant.  Deliveries are bounded by the prefetch, calls by ``max_operations``; what is
    not bounded by the worker itself and may be lost by the rules of the protocol goes through ``offer``, which refuses
    above ``limit`` events.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Add an event that may not be lost."""
        self._events.put(event)

    def offer(self, event: Event) -> bool:
        """Add an event that may be lost; False when it was."""
        if self._events.qsize() >= self._limit:
            return False
        self._events.put(event)
        return True

    def take(self, timeout: float | None) -> list[Event]:
        """All that waits, in order; waits up to ``timeout`` seconds (None: as long as it takes) for the first."""
        try:
            batch = [self._events.get(timeout=None if timeout is None else max(0.0, timeout))]
        except queue.Empty:
            return []
        while True:
            try:
                batch.append(self._events.get_nowait())
            except queue.Empty:
                return batch
