"""What the manager needs from the world beside its store: the bus's ordered traffic, queries, and who measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Answer, Command, Result
from federation.protocol.records import OperationRecord


class Meter(Protocol):
    """Who keeps durations; called on the manager's threads, and short."""

    def settled(self, record: OperationRecord, outcome: Outcome) -> None:
        """An outcome was applied."""

    def applied(self, seconds: float) -> None:
        """A batch of results is committed; the first of it has waited for so long."""


class Tracing(Protocol):
    """Who follows an operation through the processes."""

    def submitting(self, name: str, traceparent: str | None) -> AbstractContextManager[str | None]:
        """An operation is accepted within; gives the text that is stored and sent with it."""


class HeldResult(Protocol):
    """A message from the results queues that waits to be settled."""

    @property
    def result(self) -> Result | None:
        """The message, None when it could not be read."""

    @property
    def error(self) -> str | None:
        """Why it could not be read."""

    @property
    def user_id(self) -> str | None:
        """The broker user that published it, as the broker checked it."""


_Held_contra = TypeVar("_Held_contra", bound=HeldResult, contravariant=True)


class Results(Protocol[_Held_contra]):
    """Questions, outcomes and progress from the workers, in order per key."""

    def ack(self, held: _Held_contra) -> None:
        """Acknowledge."""

    def close(self, timeout: float) -> None:
        """Stop consuming; what is held goes back."""


class Commands(Protocol):
    """Publishes commands."""

    def publish(self, command: Command, on_settled: Callable[[bool], None]) -> None:
        """Publish; ``on_settled(True)`` once the broker has it, ``on_settled(False)`` if that is not certain."""


class Answers(Protocol):
    """Answers questions."""

    def answer(self, cluster: str, worker: str, answer: Answer) -> None:
        """Send to the own queue of a worker of this cluster; may be lost (the worker asks again)."""


class Queries(Protocol):
    """The query lane."""

    def query(
        self, cluster: str, name: str, revision: int, arguments: Mapping[str, object], timeout: float
    ) -> dict[str, object]:
        """Ask any worker of the cluster; returns a QueryReply in builtin types; raises Unavailable."""


class Leftover(NamedTuple):
    """Messages that wait in an epoch's partitions, and consumers of them."""

    messages: int
    consumers: int


class ClusterQueues(Protocol):
    """The queues of a cluster."""

    def declare(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare the partitions of an epoch; declaring twice is harmless."""

    def retire(self, cluster: str, epoch: int, partitions: int) -> None:
        """Delete them, and forget the cluster."""

    def restore(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare everything that the cluster needs, what is shared, too: the broker may have lost all of it."""

    def leave(self, cluster: str, epoch: int, partitions: int) -> None:
        """Declare the partitions of an epoch that is over no more after a reconnect; they stay on the broker."""

    def leftover(self, cluster: str, epoch: int, partitions: int) -> Leftover:
        """What is left in the partitions of an epoch."""

    def delete(self, cluster: str, epoch: int, partitions: int) -> None:
        """Delete the partitions of an epoch that is over; those that are gone are no error."""
