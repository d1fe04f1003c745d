"""A channel that consumes some queues, and comes back by itself.

Only :meth:`AmqpSubscription.ack`, ``reject``, ``add``, ``cancel`` and ``close`` may be called from any thread; the rest
belongs to the I/O thread.  The tag of a delivery is (stamp, delivery tag): the stamp is new for every consumer that
the broker sets up, so that a settling of an older one finds nothing and does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol

from amqp.exceptions import RecoverableConnectionError

from federation.bus.address import Address
from federation.bus.amqp.declarations import Declarations
from federation.bus.amqp.frames import Content, decode_deliver, encode_ack, encode_reject
from federation.bus.amqp.hold_off import HoldOff
from federation.bus.amqp.loop import Loop
from federation.bus.amqp.wire import Wire, WireChannel
from federation.bus.backoff import Backoff
from federation.bus.callbacks import call_back
from federation.bus.errors import BrokerRefused, BusError, BusTimeout
from federation.bus.link import Consumption, Delivery

LOG = logging.getLogger(__name__)
_ADD_SECONDS = 30.0
_SILENCE_SECONDS = 10.0
"""How long the broker may think about consuming (a queue without a leader never answers)."""
_DYING_SECONDS = 0.25
"""A queue under deletion can still be seen after the cancel, and to consume it then would cost the whole channel."""
_LONGEST_TAG = 200
_stamps = count(1)


class Owner(Protocol):
    """The connection that a subscription stands on; all but the last two belong to the I/O thread."""

    address: Address
    loop: Loop
    declarations: Declarations
    wire: Wire | None

    def announce_if_standing(self) -> None:
        """Another subscription stands again."""

    def request_or_post(self, run: Callable[[Wire], Any], timeout: float) -> None:
        """Run broker methods on the I/O thread, and wait for them unless this is it."""

    def close_subscription(self, subscription: AmqpSubscription, timeout: float) -> None:
        """Close its channel, and keep it standing no more."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the owner of a subscription wants to hear."""

    on_delivery: Callable[[Delivery], None]
    on_lost: Callable[[str, str | None], None] | None


@dataclass(frozen=True, slots=True)
class _Consumer:
    """One consumer at the broker.

    Its tag is new every time: RabbitMQ ends the connection over a tag that it has not yet forgotten.
    """

    queue: str
    stamp: int
    tag: str
    no_ack: bool

    @classmethod
    def of(cls, consumption: Consumption) -> _Consumer:
        stamp = next(_stamps)
        return cls(
            consumption.queue,
            stamp,
            f"{stamp}.{consumption.reader or consumption.queue}"[:_LONGEST_TAG],
            consumption.no_ack,
        )


class AmqpSubscription:
    """The Subscription port on one AMQP channel."""

    def __init__(self, engine: Owner, consumptions: Sequence[Consumption], prefetch: int, callbacks: Callbacks) -> None:
        self._engine = engine
        self._wanted = {consumption.queue: consumption for consumption in consumptions}
        self._prefetch = prefetch
        self._callbacks = callbacks
        self._channel: WireChannel | None = None
        self._channel_id = 0
        self._by_queue: dict[str, _Consumer] = {}
        self._by_tag: dict[str, _Consumer] = {}
        self._unacked: set[tuple[int, int]] = set()
        self._backoff = Backoff(engine.address.options.reconnect_max)
        self._live = False
        self._closed = False
        self._repairing = False
        self._held_off = HoldOff()

    def ack(self, delivery: Delivery) -> None:
        """See the port."""
        self._engine.loop.settle(self, delivery.tag, encode_ack)

    def reject(self, delivery: Delivery) -> None:
        """See the port."""
        self._engine.loop.settle(self, delivery.tag, encode_reject)

    def add(self, consumption: Consumption) -> None:
        """See the port; off the I/O thread it returns when the broker has agreed, or raises BrokerRefused."""
        self._engine.request_or_post(partial(self._add_now, consumption), _ADD_SECONDS)

    def cancel(self, queue: str) -> None:
        """See the port; off the I/O thread it returns when the broker has agreed."""
        self._engine.request_or_post(partial(self._cancel_now, queue), _ADD_SECONDS)

    def close(self, timeout: float) -> None:
        """See the port."""
        self._engine.close_subscription(self, timeout)

    @property
    def stands(self) -> bool:
        """Whether every queue that is wanted is consumed."""
        return len(self._by_queue) == len(self._wanted)

    def open(self, wire: Wire) -> None:
        """Open the channel and consume all; what the broker refuses is tried again later.

        Before the subscription is live (its first opening) a refusal is raised instead, as BrokerRefused or BusTimeout.
        """
        queue = ""
        try:
            with self._engine.loop.limited(_SILENCE_SECONDS):
                self._open_channel(wire)
                for queue, consumption in self._wanted.items():
                    if not self._held_off.holds(queue):
                        self._consume(consumption)
        except (BrokerRefused, BusTimeout) as error:
            if not self._live:
                self._closed = True
                self._abandon_channel(str(error))
                raise
            self._trouble(queue, error)
        else:
            self._live = True
            self._settle_down()

    def _open_channel(self, wire: Wire) -> None:
        channel = wire.channel()
        channel.on_lost = self._channel_lost
        channel.on_cancelled = self._consumer_cancelled
        self._channel = channel
        self._channel_id = channel.channel_id
        self._engine.loop.inbound.route(self._channel_id, self.deliver)
        channel.basic_qos(0, self._prefetch, False)  # noqa: FBT003  # AMQP's global bit: per consumer

    def _consume(self, consumption: Consumption) -> None:
        channel = self._channel
        if channel is None:
            raise BusError("the subscription has no channel")
        consumer = _Consumer.of(consumption)
        # Known first: a delivery may follow the broker's answer in the same read.
        self._add_consumer(consumer)
        try:
            channel.basic_consume(
                consumption.queue,
                consumer_tag=consumer.tag,
                no_ack=consumption.no_ack,
                exclusive=consumption.exclusive,
                arguments={"x-priority": consumption.priority},
            )
        except RecoverableConnectionError as error:
            if channel.closed_by is not None:
                raise channel.closed_by from error
            raise

    def _add_consumer(self, consumer: _Consumer) -> None:
        self._by_queue[consumer.queue] = consumer
        self._by_tag[consumer.tag] = consumer

    def _drop_consumer(self, consumer: _Consumer) -> None:
        self._by_tag.pop(consumer.tag, None)
        if self._by_queue.get(consumer.queue) is consumer:
            del self._by_queue[consumer.queue]

    def deliver(self, content: Content) -> None:
        """One message has come in whole."""
        consumer_tag, tag, redelivered, exchange, routing_key = decode_deliver(content.arguments)
        consumer = self._by_tag.get(consumer_tag)
        if consumer is None:
            return  # cancelled while it was under way
        queue = consumer.queue
        get = content.properties.get
        headers = get("headers") or {}
        counted = headers.get("x-delivery-count")
        key = (consumer.stamp, tag)
        if not consumer.no_ack:
            self._unacked.add(key)
        delivery = Delivery(
            queue,
            key,
            content.body,
            exchange,
            routing_key,
            headers,
            get("message_id"),
            get("correlation_id"),
            get("reply_to"),
            get("user_id"),
            get("content_type"),
            redelivered,
            counted if type(counted) is int else int(redelivered),
        )
        try:
            self._callbacks.on_delivery(delivery)
        except Exception:
            LOG.exception("a delivery callback of the bus raised; the message from %s stays unsettled", queue)

    def write_settling(self, key: object, encode: Callable[[int, int], bytes], out: bytearray) -> None:
        """Send one settling, unless the broker has taken the delivery back."""
        if key in self._unacked:
            self._unacked.discard(key)
            out += encode(self._channel_id, key[1])

    def lost(self, reason: str) -> None:
        """The channel or connection went away."""
        had_channel = self._channel is not None
        self._channel = None
        self._by_queue.clear()
        self._by_tag.clear()
        self._unacked.clear()
        self._repairing = False
        if had_channel and self._live and not self._closed and self._callbacks.on_lost is not None:
            call_back(self._callbacks.on_lost, reason, None)

    def _channel_lost(self, error: BrokerRefused) -> None:
        self._engine.loop.inbound.route(self._channel_id, None)
        self.lost(str(error))
        if self._live and not self._closed:
            self._repair_later(str(error))

    def _consumer_cancelled(self, consumer_tag: str) -> None:
        consumer = self._by_tag.get(consumer_tag)
        if consumer is None:
            return
        queue = consumer.queue
        self._drop_consumer(consumer)
        self._unacked = {key for key in self._unacked if key[0] != consumer.stamp}
        reason = "the broker cancelled the consumer"
        if self._callbacks.on_lost is not None:
            call_back(self._callbacks.on_lost, reason, queue)
        self._repair_later(f"{queue}: {reason}", _DYING_SECONDS)

    def _repair_later(self, reason: str, at_least: float = 0.0) -> None:
        if self._repairing:
            return
        self._repairing = True
        LOG.warning("a subscription is not whole for now: %s", reason)
        self._engine.loop.later(max(at_least, self._backoff.next()), self._repair)

    def _repair(self) -> None:
        self._repairing = False
        wire = self._engine.wire
        if wire is None or self._closed:
            return
        for queue, consumption in list(self._wanted.items()):
            if queue in self._by_queue or self._held_off.holds(queue):
                continue
            try:
                with self._engine.loop.limited(_SILENCE_SECONDS):
                    self._engine.declarations.stand_up_queue(wire, queue)
                    if self._channel is None:
                        self._open_channel(wire)
                    self._consume(consumption)
            except (BrokerRefused, BusTimeout) as error:
                self._trouble(queue, error)
        self._settle_down()

    def _trouble(self, queue: str, error: BrokerRefused | BusTimeout) -> None:
        """One queue cannot be consumed for now; a silent one has blocked the channel, and must not do so every time."""
        if isinstance(error, BusTimeout):
            self._held_off.hold(queue)
            self._abandon_channel(f"{queue}: {error}")
        self._repair_later(f"{queue}: {error}")

    def _abandon_channel(self, reason: str) -> None:
        channel = self._channel
        if channel is not None:
            self._engine.loop.inbound.route(self._channel_id, None)
            self.lost(reason)
            channel.on_lost = None
            channel.abandon()

    def _settle_down(self) -> None:
        if self.stands:
            self._backoff.reset()
            self._held_off.clear()
            self._engine.announce_if_standing()
        elif not self._repairing:
            self._repairing = True
            self._engine.loop.later(max(self._backoff.next(), self._held_off.shortest()), self._repair)

    def _add_now(self, consumption: Consumption, wire: Wire) -> None:
        self._engine.declarations.stand_up_queue(wire, consumption.queue)
        if self._channel is None:
            self._open_channel(wire)
        self._wanted[consumption.queue] = consumption
        try:
            self._consume(consumption)
        except BrokerRefused:
            del self._wanted[consumption.queue]
            raise

    def _cancel_now(self, queue: str, wire: Wire) -> None:
        del wire
        consumer = self._by_queue.get(queue)
        if consumer is not None and self._channel is not None:
            # Known until the broker has agreed: what it sent before is still delivered.
            self._channel.basic_cancel(consumer.tag)
            self._drop_consumer(consumer)
        self._wanted.pop(queue, None)

    def close_now(self) -> None:
        """Close the channel; the broker takes back what is unsettled."""
        channel, self._channel = self._channel, None
        self._engine.loop.inbound.route(self._channel_id, None)
        self._by_queue.clear()
        self._by_tag.clear()
        self._unacked.clear()
        if channel is not None:
            channel.close()

    def end(self) -> None:
        """It is about to be closed: nothing is repaired or reported lost any more."""
        self._closed = True
