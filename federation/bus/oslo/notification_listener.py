"""What a notification server listens with: one queue per topic and priority, or a pool's own, singly or in batches."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from oslo_messaging._drivers import base

from federation.bus.errors import BadMessage, BusError
from federation.bus.link import Consumption, Delivery, Link, Publication, PublishResult, Subscription
from federation.bus.oslo import body
from federation.bus.oslo.incoming import Held
from federation.bus.oslo.later import Later
from federation.bus.oslo.remembered import Remembered
from federation.bus.oslo.routes import Route
from federation.bus.oslo.shared_link import demanded, end_subscription, reported
from federation.bus.oslo.tenure import Tenures

LOG = logging.getLogger(__name__)
REQUEUES_HEADER = "federation-requeues"
_FIRST_REQUEUE_PAUSE = 0.05
_LONGEST_REQUEUE_PAUSE = 30.0


class NotificationSettler(Protocol):
    """What a notification asks of the listener that brought it; any thread may call."""

    def done(self, held: Held) -> None:
        """It was handled."""

    def again(self, held: Held) -> None:
        """Its endpoint wants it delivered again."""


class Notification(base.IncomingMessage):  # type: ignore[misc]  # oslo.messaging has no types
    """A notification: settled after its endpoints returned."""

    def __init__(self, held: Held, settler: NotificationSettler) -> None:
        super().__init__(held.request.context, held.request.message, held.delivery.message_id)
        self.held = held
        self._settler = settler

    def acknowledge(self) -> None:
        """It was handled."""
        self._settler.done(self.held)

    def requeue(self) -> None:
        """Back to the end of its queue, for any listener."""
        self._settler.again(self.held)


class Batches:
    """Gathers notifications until ``size`` are there or ``seconds`` have passed since the first."""

    def __init__(self, size: int, seconds: float | None, hand_over: Callable[[list[Notification]], None]) -> None:
        self._size = size
        self._seconds = seconds
        self._hand_over = hand_over
        self._arrivals: SimpleQueue[Notification | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="federation-notification-batches", daemon=True)
        self._thread.start()

    def add(self, notification: Notification) -> None:
        """One more; the broker's prefetch limits how many wait here."""
        self._arrivals.put(notification)

    def close(self) -> None:
        """Hand over what is gathered and end."""
        self._arrivals.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch: list[Notification] = []
            going = self._gather(batch)
            still_ours = [notification for notification in batch if not notification.held.tenure.ended]
            if still_ours:
                self._hand_over(still_ours)

    def _gather(self, batch: list[Notification]) -> bool:
        until: float | None = None
        while len(batch) < self._size:
            try:
                arrival = self._arrivals.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except Empty:
                return True
            if arrival is None:
                return False
            batch.append(arrival)
            if until is None and self._seconds is not None:
                until = time.monotonic() + self._seconds
        return True


@dataclass(frozen=True, slots=True)
class NotificationReception:
    """How a notification listener receives; ``back`` says where a requeued notification of each queue goes."""

    back: Mapping[str, Route]
    prefetch: int
    requeue_limit: int


class NotificationListener(base.Listener):  # type: ignore[misc]  # oslo.messaging has no types
    """Hands notifications to oslo.messaging's executor, from the link's I/O thread or from the batching thread."""

    def __init__(
        self,
        link: Link,
        reception: NotificationReception,
        later: Later,
        batch_size: int,
        batch_timeout: float | None,
    ) -> None:
        super().__init__(batch_size, batch_timeout)
        self._link = link
        self._reception = reception
        self._later = later
        self._gate = threading.Lock()
        self._done = Remembered()
        self._tenures = Tenures(list(reception.back))
        self._batches: Batches | None = None
        self._subscription: Subscription | None = None

    def start(self, on_incoming_callback: Callable[[list[Notification]], None]) -> None:
        """Begin to consume; raises CannotListen when the broker does not let us."""
        super().start(on_incoming_callback)
        if self.batch_size > 1:
            self._batches = Batches(self.batch_size, self.batch_timeout, self._hand_over)
        demanded(lambda: self._consume([Consumption(queue) for queue in self._reception.back]))

    def stop(self) -> None:
        """Consume nothing more; a batch that is gathered is handed over now."""
        subscription = self._subscription
        if subscription is not None:
            for queue in self._reception.back:
                reported(self._link, partial(subscription.cancel, queue), "a consumer could not be cancelled")
        if self._batches is not None:
            self._batches.close()
        with self._gate:
            super().stop()

    def cleanup(self) -> None:
        """Give back what was not settled."""
        if self._subscription is not None:
            end_subscription(self._link, self._subscription)
        self._subscription = None

    def done(self, held: Held) -> None:
        """It was handled; should its settling be lost, its copy is known here."""
        self._done.add(held.delivery.message_id)
        self._ack(held.delivery)

    def again(self, held: Held) -> None:
        """Publish a copy to the end of its queue, a little later each time, and settle this one when that is confirmed."""
        delivery = held.delivery
        times = _requeues(delivery.headers) + 1
        if times > self._reception.requeue_limit:
            LOG.error(
                "notification %s was requeued %d times: it goes to the dead letters", delivery.message_id, times - 1
            )
            self._reject(delivery)
            return
        pause = min(_FIRST_REQUEUE_PAUSE * 2 ** min(times - 1, 20), _LONGEST_REQUEUE_PAUSE)
        jitter = 0.5 + random.random()  # noqa: S311  # no secret
        if not self._later.after(0.0 if times == 1 else pause * jitter, partial(self._publish_again, delivery, times)):
            LOG.error("too many requeued notifications: %s comes again when this listener stops", delivery.message_id)

    def _publish_again(self, delivery: Delivery, times: int) -> None:
        route = self._reception.back[delivery.queue]
        copy = Publication(
            route.exchange,
            route.routing_key,
            delivery.body,
            {REQUEUES_HEADER: times},
            message_id=delivery.message_id,
            mandatory=True,
        )
        try:
            self._link.publish(copy, partial(self._published_again, delivery))
        except BusError as error:
            LOG.warning("notification %s is not requeued (%s): it comes again later", delivery.message_id, error)

    def _published_again(self, delivery: Delivery, result: PublishResult) -> None:
        if result is PublishResult.CONFIRMED:
            self._ack(delivery)
        else:
            LOG.warning("notification %s is not requeued (%s): it comes again later", delivery.message_id, result.value)

    def _consume(self, consumptions: Sequence[Consumption]) -> None:
        """Subscribe empty-handed, then add the queues: a delivery needs to know the subscription that it came by."""
        self._subscription = self._link.subscribe([], self._reception.prefetch, self._on_delivery, self._on_lost)
        for consumption in consumptions:
            self._subscription.add(consumption)

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.message_id in self._done:
            LOG.info("notification %s was handled here already; its copy is dropped", delivery.message_id)
            self._ack(delivery)
            return
        try:
            request = body.decode_request(delivery.body)
        except BadMessage as error:
            LOG.error(  # noqa: TRY400  # the error says it all
                "message %s in %s is no notification (%s): it goes to the dead letters",
                delivery.message_id,
                delivery.queue,
                error,
            )
            self._reject(delivery)
            return
        notification = Notification(Held(delivery, request, self._tenures.of(delivery.queue)), self)
        if self._batches is None:
            self._hand_over([notification])
        else:
            self._batches.add(notification)

    def _hand_over(self, notifications: list[Notification]) -> None:
        with self._gate:
            callback = self.on_incoming_callback
            if callback is not None:
                callback(notifications)

    def _on_lost(self, reason: str, queue: str | None) -> None:
        LOG.info("what is held of %s was taken back by the broker: %s", queue or "all queues of a channel", reason)
        self._tenures.end(queue)

    def _ack(self, delivery: Delivery) -> None:
        if self._subscription is not None:
            self._subscription.ack(delivery)

    def _reject(self, delivery: Delivery) -> None:
        if self._subscription is not None:
            self._subscription.reject(delivery)


def _requeues(headers: Mapping[str, Any]) -> int:
    times = headers.get(REQUEUES_HEADER, 0)
    return times if isinstance(times, int) and times >= 0 else 0
