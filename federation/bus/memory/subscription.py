"""The Subscription port on the embedded broker.

``ack`` and ``reject`` may be called from any thread; the rest runs on the link's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from federation.bus.backoff import Backoff
from federation.bus.callbacks import call_back
from federation.bus.errors import BrokerRefused
from federation.bus.link import Consumption, Delivery
from federation.bus.memory.broker import MemoryBroker
from federation.bus.memory.queue import Connection, Consumer

LOG = logging.getLogger(__name__)
_ADD_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 1.0
_stamps = count(1)


class Owner(Protocol):
    """The link that a subscription stands on."""

    def is_on(self, connection: Connection) -> bool:
        """Whether this is its connection of now."""

    def stand_up_queue(self, name: str) -> None:
        """Make sure that a queue is there; raises BrokerRefused."""

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something on the link's thread, then."""

    def request_or_post(self, run: Callable[[Connection], None], timeout: float) -> None:
        """Run something on the link's thread, and wait for it unless this is it."""

    def close_subscription(self, subscription: MemorySubscription, timeout: float) -> None:
        """Close it on the link's thread."""


class MemorySubscription:
    """A channel of the embedded broker; the stamp in a delivery's tag tells which consumer of its queue it was for."""

    def __init__(
        self,
        link: Owner,
        broker: MemoryBroker,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[str, str | None], None] | None,
    ) -> None:
        self._link = link
        self._broker = broker
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._wanted: dict[str, Consumption] = {}
        self._consumers: dict[str, Consumer] = {}
        self._connection: Connection | None = None
        self._backoff = Backoff(_LONGEST_PAUSE_SECONDS)
        self._repairing = False
        self._closed = False

    def ack(self, delivery: Delivery) -> None:
        """See the port."""
        self._settle(delivery, reject=False)

    def reject(self, delivery: Delivery) -> None:
        """See the port."""
        self._settle(delivery, reject=True)

    def _settle(self, delivery: Delivery, *, reject: bool) -> None:
        consumer = self._consumers.get(delivery.queue)
        if consumer is not None and isinstance(delivery.tag, tuple) and delivery.tag[0] == consumer.stamp:
            self._broker.settle(consumer, delivery.tag[1], reject=reject)

    def add(self, consumption: Consumption) -> None:
        """See the port."""

        def run(connection: Connection) -> None:
            self._link.stand_up_queue(consumption.queue)
            self._consume(connection, consumption)
            self._wanted[consumption.queue] = consumption

        self._link.request_or_post(run, _ADD_SECONDS)

    def cancel(self, queue: str) -> None:
        """See the port."""

        def run(_: Connection) -> None:
            self._wanted.pop(queue, None)
            consumer = self._consumers.pop(queue, None)
            if consumer is not None:
                self._broker.remove_consumers([consumer])

        self._link.request_or_post(run, _ADD_SECONDS)

    def close(self, timeout: float) -> None:
        """See the port."""
        self._link.close_subscription(self, timeout)

    def consumers(self) -> list[Consumer]:
        """What consumes at this moment."""
        return list(self._consumers.values())

    def open(self, connection: Connection, consumptions: Sequence[Consumption]) -> None:
        """Consume for the first time; raises BrokerRefused and consumes nothing."""
        self._connection = connection
        self._wanted = {each.queue: each for each in consumptions}
        try:
            for consumption in consumptions:
                self._consume(connection, consumption)
        except BrokerRefused:
            self.close_now()
            raise

    def reopen(self, connection: Connection | None) -> None:
        """Consume again after a reconnect."""
        self._connection = connection
        self._repair()

    def _consume(self, connection: Connection, consumption: Consumption) -> None:
        self._connection = connection
        consumer = Consumer(consumption, self._prefetch, connection, self, next(_stamps))
        self._consumers[consumption.queue] = consumer
        try:
            self._broker.add_consumer(connection, consumer)
        except BrokerRefused:
            del self._consumers[consumption.queue]
            raise

    def deliver(self, consumer: Consumer, delivery: Delivery) -> None:
        """A message has come for one of the consumers, if it still is one."""
        if self._consumers.get(delivery.queue) is consumer and self._link.is_on(consumer.connection):
            call_back(self._on_delivery, delivery)

    def lost(self, reason: str) -> None:
        """Channel or connection have gone."""
        self._connection = None
        self._consumers.clear()
        if not self._closed and self._on_lost is not None:
            call_back(self._on_lost, reason, None)

    def channel_lost(self, consumer: Consumer, reason: str) -> None:
        """The broker closes the channel because of one of its consumers."""
        if self._consumers.get(consumer.consumption.queue) is not consumer:
            return
        connection = self._connection
        self._broker.remove_consumers(self.consumers())
        self.lost(reason)
        self._connection = connection
        self._repair_later(reason)

    def consumer_lost(self, consumer: Consumer) -> None:
        """A queue has gone."""
        queue = consumer.consumption.queue
        if self._consumers.get(queue) is not consumer:
            return
        del self._consumers[queue]
        reason = "the broker cancelled the consumer"
        if self._on_lost is not None:
            call_back(self._on_lost, reason, queue)
        self._repair_later(f"{queue}: {reason}")

    def _repair_later(self, reason: str) -> None:
        if not self._repairing and not self._closed:
            self._repairing = True
            LOG.warning("a subscription is not whole for now: %s", reason)
            self._link.later(self._backoff.next(), self._repair)

    def _repair(self) -> None:
        self._repairing = False
        connection = self._connection
        if connection is None or self._closed:
            return
        for queue, consumption in self._wanted.items():
            if queue in self._consumers:
                continue
            try:
                self._link.stand_up_queue(queue)
                self._consume(connection, consumption)
            except BrokerRefused as error:
                self._repair_later(f"{queue}: {error}")
        if len(self._consumers) == len(self._wanted):
            self._backoff.reset()

    def close_now(self) -> None:
        """Close: what is held goes back to its place."""
        self._closed = True
        consumers = self.consumers()
        self._consumers.clear()
        self._broker.remove_consumers(consumers)
