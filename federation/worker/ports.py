"""What the worker needs from the world.

Every port may be called from several threads, gives up in bounded time, and raises
:class:`federation.worker.errors.Unavailable` for trouble that may pass.  Callbacks run on the port's I/O thread; the
worker only puts what they bring into its inbox.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from federation.contract.outcomes import Outcome
from federation.protocol.admission import Admission, Announcement, Departure, Heartbeat, HeartbeatAnswer
from federation.protocol.envelope import Answer, Command, Progress, Question, Report


class HeldCommand(Protocol):
    """A delivery that waits to be settled."""

    @property
    def command(self) -> Command | None:
        """The command; None when not even its headers could be read."""

    @property
    def partition(self) -> int:
        """The partition that brought it."""

    @property
    def delivery_count(self) -> int:
        """How often the broker had delivered it before."""

    @property
    def error(self) -> str | None:
        """What is wrong with the body; None when it is readable."""


_Held_contra = TypeVar("_Held_contra", bound=HeldCommand, contravariant=True)


class Commands(Protocol[_Held_contra]):
    """The cluster's partitions, as one channel consumes them."""

    def start(self) -> None:
        """Consume; from now on the callbacks are called."""

    def ack(self, held: _Held_contra) -> None:
        """Acknowledge; nothing happens when its channel has gone."""

    def reject(self, held: _Held_contra) -> None:
        """Dead-letter; nothing happens when its channel has gone."""

    def close(self, timeout: float) -> None:
        """Send the acknowledgements that wait, then close the channel: what is held goes back in order."""


class Sender(Protocol):
    """The results queues, seen from a worker."""

    def ask(self, question: Question) -> None:
        """Send; may be lost (the worker asks again)."""

    def report(self, report: Report, on_settled: Callable[[bool], None]) -> None:
        """Publish with a confirm.

        ``on_settled`` is called exactly once: True when the broker has it, False when that is not certain.
        """

    def progress(self, progress: Progress) -> None:
        """Send; may be lost."""


class Closable(Protocol):
    """Something that was opened."""

    def close(self, timeout: float) -> None:
        """Let go of it."""


class ManagerClient(Protocol):
    """The manager's side of admission."""

    def admit(self, announcement: Announcement) -> Admission:
        """Ask to join; an error of the catalogue (ContractMismatch, NotFound, …) is a refusal."""

    def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Say that the worker lives."""

    def leave(self, departure: Departure) -> None:
        """Say that the worker leaves."""


class Meter(Protocol):
    """Who keeps durations; called from several threads, and short."""

    def lasted(self, operation: str, seconds: float) -> None:
        """A driver's call of a declared operation or query ended."""

    def margin(self, seconds: float) -> None:
        """An operation ended; so much of its lease was left at its closest guard."""


class CallTrace(Protocol):
    """Who follows one driver call; called in the driver's thread."""

    def changing(self) -> None:
        """A guard has let a change on the hypervisor through."""

    def told(self) -> None:
        """The driver speaks again: the change is done."""


class Tracing(Protocol):
    """Who follows operations through the processes; the first three are called by the thread that decides."""

    def delivered(self, command: Command) -> None:
        """A copy arrived."""

    def asked(self, question: Question) -> None:
        """A question was sent, for the first time or again."""

    def answered(self, answer: Answer) -> None:
        """It was answered."""

    def calling(self, command: Command, attempt: int) -> AbstractContextManager[CallTrace]:
        """The driver runs within, in its thread."""

    def ended(self, outcome: Outcome | None) -> None:
        """What came of it, told within ``calling``; None: it was revoked."""


OnCommand = Callable[[HeldCommand], None]
OnLost = Callable[[str, int | None], None]
"""(reason, partition): one partition's consumer was taken away, or (None) channel or connection went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All ports of a worker.

    ``open_answers`` begins to receive the answers to this worker's questions; ``open_commands`` makes, without starting
    it, the consumer of the partitions that an admission names.
    """

    sender: Sender
    manager: ManagerClient
    open_answers: Callable[[Callable[[Answer], None]], Closable]
    open_commands: Callable[[Admission, OnCommand, OnLost], Commands[HeldCommand]]
    tracing: Tracing | None = None
