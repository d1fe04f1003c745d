"""What an RPC server listens with: its topic, its own name, its fanout and, if the transport is ordered, partitions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from oslo_messaging._drivers import base

from federation.bus.errors import BadMessage
from federation.bus.link import Consumption, Delivery, Link, Subscription
from federation.bus.oslo import body
from federation.bus.oslo.errors import TransportError
from federation.bus.oslo.incoming import Held, OrderedRequest, RpcRequest
from federation.bus.oslo.key_order import KeyOrder
from federation.bus.oslo.later import Later
from federation.bus.oslo.remembered import Remembered
from federation.bus.oslo.reply_sender import ReplySender
from federation.bus.oslo.routes import Source
from federation.bus.oslo.shared_link import demanded, end_subscription, reported
from federation.bus.oslo.tenure import Tenures
from federation.protocol.partition_map import consumer_priority

LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 10.0
_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RpcSources:
    """The queues of one RPC server.

    ``plain`` are consumed unordered, ``keyed`` keep the order of messages that have an ordering key, ``partitions`` keep
    it for all their messages and have one active consumer each; ``own`` (one of ``keyed`` or ``plain``) ends with the
    listener.
    """

    plain: Sequence[Source]
    keyed: Sequence[Source]
    partitions: Sequence[Source]
    own: Source


@dataclass(frozen=True, slots=True)
class Reception:
    """How a listener receives: who it is to the broker, how much it holds, how large a reply may be.

    ``user_in_context`` names the context's entry for the sender's broker user, if that is wanted.
    """

    consumer: str
    prefetch: int
    ordered_prefetch: int
    limit_bytes: int
    user_in_context: str = ""


class RpcListener(base.Listener):  # type: ignore[misc]  # oslo.messaging has no types
    """Hands requests to oslo.messaging's executor from the link's I/O thread; endpoints run in the executor's threads."""

    def __init__(
        self, link: Link, sources: RpcSources, reception: Reception, replies: ReplySender, later: Later
    ) -> None:
        super().__init__(1, None)
        self._link = link
        self._sources = sources
        self._reception = reception
        self._replies = replies
        self._later = later
        self._gate = threading.Lock()
        self._done = Remembered()
        self._order: KeyOrder[OrderedRequest] = KeyOrder(self._hand_over_ordered)
        self._keyed = {source.queue for source in (*sources.keyed, *sources.partitions)}
        self._partitions = {source.queue for source in sources.partitions}
        self._shared_tenures = Tenures([source.queue for source in (*sources.plain, *sources.keyed)])
        self._ordered_tenures = Tenures([source.queue for source in sources.partitions])
        self._watching = False
        self._shared: Subscription | None = None
        self._ordered: Subscription | None = None

    def start(self, on_incoming_callback: Callable[[list[RpcRequest]], None]) -> None:
        """Begin to consume; raises CannotListen when the broker does not let us."""
        super().start(on_incoming_callback)
        shared = [Consumption(source.queue) for source in (*self._sources.plain, *self._sources.keyed)]
        ordered = [Consumption(each, consumer_priority(self._reception.consumer, each)) for each in self._partitions]
        demanded(lambda: self._consume(shared, ordered))

    def stop(self) -> None:
        """Hand over nothing more.

        Plain queues are cancelled, so that other servers get what comes; ordered ones never are while something of them
        is held (the next server would start at once): they go with the channel in :meth:`cleanup`.
        """
        self._order.stop()
        with self._gate:
            super().stop()
        shared = self._shared
        if shared is not None:
            for source in self._sources.plain:
                reported(self._link, partial(shared.cancel, source.queue), "a consumer could not be cancelled")

    def cleanup(self) -> None:
        """Give back what was not begun, in order, and delete the queue that only this listener had."""
        for subscription in (self._shared, self._ordered):
            if subscription is not None:
                end_subscription(self._link, subscription)
        self._shared = self._ordered = None
        own = self._sources.own
        self._link.forget(own.own)
        reported(
            self._link, partial(self._link.delete_queue, own.queue, _CLOSE_SECONDS), "a fanout queue was not deleted"
        )

    def begun(self, held: Held) -> bool:
        """A plain request is about to be dispatched."""
        self._settle(held.delivery)
        return self._done.add(held.delivery.message_id)

    def finished(self, held: Held, key: str) -> None:
        """An ordered request was dispatched; should its settling be lost, its copy is known here."""
        self._done.add(held.delivery.message_id)
        self._settle(held.delivery)
        self._order.settled(key)

    def skipped(self, key: str) -> None:
        """An ordered request was taken back before its dispatch."""
        self._order.settled(key)

    def soon(self, work: Callable[[], None]) -> None:
        """Do this on the delayed-work thread."""
        if not self._later.after(0.0, work):
            LOG.error("too much delayed work: an abandoned message stays unsettled until this server stops")

    def _consume(self, shared: Sequence[Consumption], ordered: Sequence[Consumption]) -> None:
        """Subscribe empty-handed, then add the queues: a delivery needs to know the subscription that it came by."""
        reception = self._reception
        self._shared = self._link.subscribe(
            [], reception.prefetch, self._on_delivery, partial(self._on_lost, self._shared_tenures)
        )
        for consumption in shared:
            self._shared.add(consumption)
        if ordered:
            self._ordered = self._link.subscribe(
                [], reception.ordered_prefetch, self._on_delivery, partial(self._on_lost, self._ordered_tenures)
            )
            for consumption in ordered:
                self._ordered.add(consumption)

    def _subscription_of(self, delivery: Delivery) -> Subscription | None:
        return self._ordered if delivery.queue in self._partitions else self._shared

    def _settle(self, delivery: Delivery) -> None:
        subscription = self._subscription_of(delivery)
        if subscription is not None:
            subscription.ack(delivery)

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.message_id in self._done:
            LOG.info("message %s was run here already; its copy is dropped", delivery.message_id)
            self._settle(delivery)
            return
        try:
            request = body.decode_request(delivery.body)
        except BadMessage as error:
            self._refuse(delivery, error)
            return
        if self._reception.user_in_context:
            request.context[self._reception.user_in_context] = delivery.user_id
        in_partition = delivery.queue in self._partitions
        tenures = self._ordered_tenures if in_partition else self._shared_tenures
        held = Held(delivery, request, tenures.of(delivery.queue))
        if in_partition or (delivery.queue in self._keyed and body.ordering_key(request.context) is not None):
            ordered = OrderedRequest(held, self, self._replies, self._reception.limit_bytes)
            if not self._order.arrive(ordered.key, ordered):
                self._watch()
        else:
            self._hand_over(RpcRequest(held, self, self._replies, self._reception.limit_bytes))

    def _hand_over_ordered(self, request: OrderedRequest) -> None:
        """A key's next turn; what was taken back is passed over, a copy of what ran in the meantime settled."""
        if request.held.tenure.ended:
            self._order.settled(request.key)
        elif request.held.delivery.message_id in self._done:
            self.finished(request.held, request.key)
        else:
            self._hand_over(request)

    def _hand_over(self, request: RpcRequest) -> None:
        with self._gate:
            callback = self.on_incoming_callback
            if callback is not None:
                callback([request])

    def _watch(self) -> None:
        """While messages wait for others of their key, look after those now and then."""
        if not self._watching:
            self._watching = self._later.after(_WATCH_SECONDS, self._look_after)

    def _look_after(self) -> None:
        self._watching = False
        for request in self._order.blocking():
            request.finish_if_abandoned()
        if self._order.blocking():
            self._watch()

    def _on_lost(self, tenures: Tenures, reason: str, queue: str | None) -> None:
        LOG.info("what is held of %s was taken back by the broker: %s", queue or "all queues of a channel", reason)
        tenures.end(queue)
        self._order.drop_waiting(lambda request: request.held.tenure.ended)

    def _refuse(self, delivery: Delivery, error: BadMessage) -> None:
        LOG.error(
            "message %s in %s is no request (%s): it goes to the dead letters",
            delivery.message_id,
            delivery.queue,
            error,
        )
        if delivery.reply_to is not None:
            refusal = body.encode_refusal(TransportError(str(error)), self._reception.limit_bytes)
            self._replies.reply(delivery.reply_to, delivery.correlation_id, refusal)
        subscription = self._subscription_of(delivery)
        if subscription is not None:
            subscription.reject(delivery)
