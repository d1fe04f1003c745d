"""The Link port on RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from federation.bus.address import Address
from federation.bus.amqp import declarations
from federation.bus.amqp.engine import Engine
from federation.bus.amqp.subscription import AmqpSubscription, Callbacks
from federation.bus.errors import LinkClosed
from federation.bus.link import (
    Binding,
    Consumption,
    Delivery,
    Exchange,
    Publication,
    PublishResult,
    Queue,
    Subscription,
)


class AmqpLink:
    """One self-healing connection to RabbitMQ; the methods are described at :class:`federation.bus.link.Link`."""

    def __init__(self, address: Address, name: str) -> None:
        self._engine = Engine(address, name)

    def __repr__(self) -> str:
        """Where it leads, without the password."""
        return f"<AmqpLink to {self._engine.address}>"

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._engine.wire is not None

    @property
    def broker_version(self) -> str | None:
        """See the port."""
        return self._engine.broker_version

    def start(self, timeout: float) -> None:
        """See the port."""
        self._engine.start(timeout)

    def declare(self, items: Sequence[Exchange | Queue | Binding], timeout: float = 30.0) -> None:
        """See the port."""
        self._engine.request(lambda wire: self._engine.declarations.declare(wire, items), timeout)

    def forget(self, items: Sequence[Exchange | Queue | Binding]) -> None:
        """See the port."""
        self._engine.declarations.forget(items)

    def delete_queue(self, name: str, timeout: float = 30.0) -> None:
        """See the port."""
        self._engine.declarations.forget_queue(name)
        self._engine.request(partial(declarations.delete_queue, name=name), timeout)

    def queue_depth(self, name: str, timeout: float = 10.0) -> tuple[int, int] | None:
        """See the port."""
        depth: tuple[int, int] | None = self._engine.request(partial(declarations.queue_depth, name=name), timeout)
        return depth

    def publish(
        self,
        publication: Publication,
        on_settled: Callable[[PublishResult], None] | None = None,
        *,
        more: bool = False,
    ) -> None:
        """See the port."""
        engine = self._engine
        if engine.closing:
            msg = "the link is closed"
            raise LinkClosed(msg)
        engine.outbox.put(publication, on_settled)
        if not more:
            engine.loop.wake()

    def subscribe(
        self,
        consumptions: Sequence[Consumption],
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[str, str | None], None] | None = None,
        timeout: float = 30.0,
    ) -> Subscription:
        """See the port."""
        subscription = AmqpSubscription(self._engine, consumptions, prefetch, Callbacks(on_delivery, on_lost))
        self._engine.open_subscription(subscription, timeout)
        return subscription

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._engine.reconnect_callbacks.append(callback)

    def break_connection(self) -> None:
        """Cut the connection as a failing network would; the link heals itself (for fault injection)."""
        self._engine.break_connection()

    def close(self, timeout: float) -> None:
        """See the port."""
        self._engine.stop(timeout)
