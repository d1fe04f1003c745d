"""What the bus asks of a broker: one link, whether it leads to RabbitMQ or to the broker in this process.

A *link* is one connection that keeps itself alive.  One I/O thread owns it; every method here may be called from any
thread, and every callback runs on the I/O thread, must return at once and must not raise.  The three faces of the bus
(the ordered ports, the oslo.messaging driver, the observer's queue reads) are written against this module only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec


class PublishResult(enum.Enum):
    """What became of one publication."""

    CONFIRMED = "confirmed"
    """The broker took it into a queue (a confirm without a return)."""
    NACKED = "nacked"
    """The broker refused it: the queue is full or unavailable."""
    RETURNED = "returned"
    """No queue is bound where it was sent (``mandatory`` publications only)."""
    LOST = "lost"
    """The connection went away before the broker answered: it may or may not have arrived."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to declare; ``kind`` is ``direct``, ``topic`` or ``fanout``."""

    name: str
    kind: str
    durable: bool = True
    auto_delete: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to declare, with the arguments RabbitMQ knows (``x-queue-type`` and the rest)."""

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to an exchange."""

    exchange: str
    queue: str
    routing_key: str = ""


class Publication(msgspec.Struct, frozen=True):
    """One message on its way out; a struct, like Delivery, because they are made many thousand times a second."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, object] = {}
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str = "application/msgpack"
    persistent: bool = True
    mandatory: bool = True
    expiration_seconds: float | None = None


class Delivery(msgspec.Struct, frozen=True):
    """One message that arrived and waits to be settled.

    ``delivery_count`` is how often the broker had delivered it before (``x-delivery-count``, 0 at first);
    ``tag`` is opaque: give the delivery back to the subscription that brought it.
    """

    queue: str
    tag: object
    body: bytes
    exchange: str
    routing_key: str
    headers: Mapping[str, object]
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    user_id: str | None
    content_type: str | None
    redelivered: bool
    delivery_count: int


@dataclass(frozen=True, slots=True)
class Consumption:
    """A wish to consume one queue; among consumers of a queue the highest priority is served (or active) first.

    ``reader`` names who reads, in the consumer's tag, for those who look at the broker.
    """

    queue: str
    priority: int = 0
    exclusive: bool = False
    no_ack: bool = False
    reader: str = ""


class Subscription(Protocol):
    """A channel of its own that consumes some queues, opened again after every loss of the connection."""

    def ack(self, delivery: Delivery) -> None:
        """Settle; of a delivery whose channel has gone it does nothing (the broker has taken it back)."""

    def reject(self, delivery: Delivery) -> None:
        """Refuse without requeue: the queue's dead-letter exchange gets it."""

    def add(self, consumption: Consumption) -> None:
        """Consume one more queue on this channel."""

    def cancel(self, queue: str) -> None:
        """Stop consuming one queue, only ever while nothing of it is held (DESIGN 6.5.2)."""

    def close(self, timeout: float) -> None:
        """Close the channel; the broker takes back, in order, what was not settled."""


class Link(Protocol):
    """One self-healing connection to a broker."""

    @property
    def connected(self) -> bool:
        """Whether the connection stands at this moment."""

    @property
    def broker_version(self) -> str | None:
        """The broker's product and version as it announced them, None before the first connection."""

    def start(self, timeout: float) -> None:
        """Connect, trying every host of the URL, or raise BusUnavailable with what each host said."""

    def declare(self, items: Sequence[Exchange | Queue | Binding], timeout: float = 30.0) -> None:
        """Declare and remember, so that it is declared again after every reconnect; raises TopologyMismatch."""

    def forget(self, items: Sequence[Exchange | Queue | Binding]) -> None:
        """Stop declaring these again after a reconnect (they stay on the broker)."""

    def delete_queue(self, name: str, timeout: float = 30.0) -> None:
        """Delete a queue; one that is not there is no error."""

    def queue_depth(self, name: str, timeout: float = 10.0) -> tuple[int, int] | None:
        """(ready messages, consumers) by a passive declare, or None when there is no such queue."""

    def publish(
        self,
        publication: Publication,
        on_settled: Callable[[PublishResult], None] | None = None,
        *,
        more: bool = False,
    ) -> None:
        """Send, pipelined.

        ``more`` says that the caller settles or publishes something else on this link right after, and that both may
        leave together then.

        With ``on_settled`` the publication is confirmed and the callback is called exactly once; without, nothing is
        said of its fate.  Raises BusOverloaded when more than the link's limit of publications wait, BodyTooLarge.
        """

    def subscribe(
        self,
        consumptions: Sequence[Consumption],
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[str, str | None], None] | None = None,
        timeout: float = 30.0,
    ) -> Subscription:
        """Open a subscription.  ``prefetch`` counts per queue; 0 is no limit.

        A delivery may come before this returns: who settles in the callback subscribes to nothing and then ``add``s.

        ``on_lost(reason, queue)`` is called when the broker takes one queue's consumer away (``queue`` names it;
        the consumer is set up again) or when channel or connection go (``queue`` is None; both are set up again):
        every delivery held of it is void from that moment and its settling does nothing.
        """

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back after every re-established connection, when topology and subscriptions stand again."""

    def close(self, timeout: float) -> None:
        """Send what waits, within the timeout, and disconnect."""
