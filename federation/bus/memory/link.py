"""The Link port on the embedded broker.

Each link has a thread of its own, on which every callback runs: nothing is called back on a publisher's stack, exactly
as with RabbitMQ.  What the broker tells a connection that has since been lost is dropped (deliveries) or settled as
lost (publications).
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from federation.bus.address import Address
from federation.bus.backoff import Backoff
from federation.bus.callbacks import call_back
from federation.bus.errors import (
    BodyTooLarge,
    BrokerRefused,
    BusError,
    BusOverloaded,
    BusTimeout,
    BusUnavailable,
    CannotEncode,
    LinkClosed,
)
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
from federation.bus.memory.broker import MemoryBroker, broker_named
from federation.bus.memory.queue import Connection, Consumer
from federation.bus.memory.subscription import MemorySubscription

LOG = logging.getLogger(__name__)
BROKER_VERSION = "embedded broker 1.0"
_IDLE_SECONDS = 1.0
_RECONNECT_SECONDS = 0.05
OnSettled = Callable[[PublishResult], None]
Item = Exchange | Queue | Binding


class MemoryLink:
    """See the module; the methods are described at :class:`federation.bus.link.Link`."""

    def __init__(self, address: Address, name: str, broker: MemoryBroker | None = None) -> None:
        self._address = address
        self._name = name
        self._broker = broker or broker_named(address.name)
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = count()
        self._items: dict[object, Item] = {}
        self._subscriptions: list[MemorySubscription] = []
        self._on_reconnect: list[Callable[[], None]] = []
        self._connection: Connection | None = None
        self._sending = threading.RLock()
        self._waiting: deque[tuple[Publication, OnSettled | None]] = deque()
        self._unsettled = 0
        self._closing = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"bus {name}", daemon=True)

    def __repr__(self) -> str:
        """Where it leads, without the password."""
        return f"<MemoryLink to {self._address}>"

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._connection is not None

    @property
    def broker_version(self) -> str | None:
        """See the port."""
        return BROKER_VERSION if self._thread.is_alive() else None

    def start(self, timeout: float) -> None:
        """See the port; the embedded broker is always there."""
        del timeout
        self._connect()
        self._thread.start()

    def is_on(self, connection: Connection) -> bool:
        """Whether this is the link's connection still."""
        return connection is self._connection

    # -- topology ----------------------------------------------------------------------------------------------------

    def declare(self, items: Sequence[Item], timeout: float = 30.0) -> None:
        """See the port."""

        def run(connection: Connection) -> None:
            for item in items:
                self._broker.declare(connection, item)
            for item in items:
                self._items[_identity(item)] = item

        self._request(run, timeout)

    def forget(self, items: Sequence[Item]) -> None:
        """See the port."""
        for item in items:
            self._items.pop(_identity(item), None)

    def delete_queue(self, name: str, timeout: float = 30.0) -> None:
        """See the port."""
        self.forget([each for each in list(self._items.values()) if _names_queue(each, name)])
        self._request(lambda connection: self._broker.delete_queue(connection, name), timeout)

    def queue_depth(self, name: str, timeout: float = 10.0) -> tuple[int, int] | None:
        """See the port."""
        depth: tuple[int, int] | None = self._request(lambda connection: self._broker.depth(connection, name), timeout)
        return depth

    def stand_up_queue(self, name: str) -> None:
        """Declare a queue again that is ours, with its bindings; raises BrokerRefused when it is not and is not there."""
        connection = self._connection
        if connection is None:
            return
        for item in [each for each in list(self._items.values()) if _names_queue(each, name)]:
            self._broker.declare(connection, item)
        if self._broker.depth(connection, name) is None:
            raise BrokerRefused(404, f"NOT_FOUND - no queue '{name}'")

    # -- messages ----------------------------------------------------------------------------------------------------

    def publish(self, publication: Publication, on_settled: OnSettled | None = None, *, more: bool = False) -> None:
        """See the port; nothing is gained here by waiting for ``more``."""
        del more
        options = self._address.options
        if len(publication.body) > options.max_body_bytes:
            raise BodyTooLarge(len(publication.body), options.max_body_bytes)
        with self._sending:
            if self._closing.is_set():
                raise LinkClosed("the link is closed")
            if self._unsettled + len(self._waiting) >= options.max_unsettled:
                raise BusOverloaded(f"{options.max_unsettled} publications wait already")
            if self._connection is None or self._waiting:
                self._waiting.append((publication, on_settled))
            else:
                self._send(self._connection, publication, on_settled)

    def _send(self, connection: Connection, publication: Publication, on_settled: OnSettled | None) -> None:
        try:
            result = self._broker.publish(connection, publication)
        except BrokerRefused as error:
            LOG.error("a publication is lost: %s", error)  # noqa: TRY400  # expected kind
            result = PublishResult.LOST
        if on_settled is not None:
            self._unsettled += 1
            self._events.put(partial(self._settled, connection, on_settled, result))

    def _settled(self, connection: Connection, on_settled: OnSettled, result: PublishResult) -> None:
        with self._sending:
            self._unsettled -= 1
        call_back(on_settled, result if self.is_on(connection) else PublishResult.LOST)

    def _send_waiting(self) -> None:
        with self._sending:
            while self._waiting and self._connection is not None:
                publication, on_settled = self._waiting.popleft()
                try:
                    self._send(self._connection, publication, on_settled)
                except CannotEncode as error:
                    LOG.error("a publication is lost: %s", error)  # noqa: TRY400  # expected kind
                    if on_settled is not None:
                        call_back(on_settled, PublishResult.LOST)

    def subscribe(
        self,
        consumptions: Sequence[Consumption],
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_lost: Callable[[str, str | None], None] | None = None,
        timeout: float = 30.0,
    ) -> Subscription:
        """See the port."""
        subscription = MemorySubscription(self, self._broker, prefetch, on_delivery, on_lost)

        def run(connection: Connection) -> None:
            subscription.open(connection, consumptions)
            self._subscriptions.append(subscription)

        self._request(run, timeout)
        return subscription

    def close_subscription(self, subscription: MemorySubscription, timeout: float) -> None:
        """Close a subscription on this link's thread."""

        def run(_: Connection) -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
            subscription.close_now()

        try:
            self.request_or_post(run, timeout)
        except LinkClosed:
            LOG.debug("the link was closed before its subscription")

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See the port."""
        self._on_reconnect.append(callback)

    # -- the link's thread -------------------------------------------------------------------------------------------

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something on the link's thread; called from that thread."""
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._timer_ids), run))

    def request_or_post(self, run: Callable[[Connection], Any], timeout: float) -> None:
        """Do something with the broker and wait for it; from a callback, do it soon and do not wait."""
        if threading.current_thread() is self._thread:
            future: Future[Any] = Future()
            future.add_done_callback(_report_failure)
            self._events.put(partial(self._run_request, run, future, monotonic() + timeout))
        else:
            self._request(run, timeout)

    def _request(self, run: Callable[[Connection], Any], timeout: float) -> Any:
        if threading.current_thread() is self._thread:
            raise BusError("a callback of the bus may not wait for the broker; do it on another thread")
        if self._closing.is_set() or not self._thread.is_alive():
            raise LinkClosed("the link is closed")
        future: Future[Any] = Future()
        self._events.put(partial(self._run_request, run, future, monotonic() + timeout))
        try:
            return future.result(timeout)
        except FutureTimeoutError as error:
            future.cancel()
            raise BusTimeout(f"the embedded broker's link was busy for {timeout:g} s") from error

    def _run_request(self, run: Callable[[Connection], Any], future: Future[Any], deadline: float) -> None:
        connection = self._connection
        if connection is None and not self._ended and monotonic() < deadline:
            self.later(_RECONNECT_SECONDS, partial(self._run_request, run, future, deadline))
            return
        if not future.running() and not future.set_running_or_notify_cancel():
            return
        if connection is None:
            future.set_exception(BusUnavailable("the link is not connected"))
            return
        try:
            future.set_result(run(connection))
        except BusError as error:
            future.set_exception(error)

    def _run(self) -> None:
        while not self._ended:
            pause = _IDLE_SECONDS
            due = self._broker.due_in()
            if due is not None:
                pause = min(pause, due)
            if self._timers:
                pause = min(pause, max(0.0, self._timers[0][0] - monotonic()))
            try:
                event: Callable[[], None] | None = self._events.get(timeout=pause)
            except Empty:
                event = None
            if event is not None:
                event()
            if self._broker.due_in() == 0:
                self._broker.tick()
            while self._timers and self._timers[0][0] <= monotonic():
                heapq.heappop(self._timers)[2]()

    def _connect(self) -> None:
        connection: Connection

        def tell(what: Callable[[MemorySubscription], None], consumer: Consumer) -> None:
            if isinstance(consumer.channel, MemorySubscription):
                self._events.put(partial(what, consumer.channel))

        connection = Connection(
            user=self._address.user,
            alarm=lambda: self._events.put(_nothing),
            deliver=lambda consumer, delivery: tell(lambda each: each.deliver(consumer, delivery), consumer),
            consumer_lost=lambda consumer: tell(lambda each: each.consumer_lost(consumer), consumer),
            channel_lost=lambda consumer, reason: tell(lambda each: each.channel_lost(consumer, reason), consumer),
        )
        self._broker.connect(connection)
        for item in list(self._items.values()):
            try:
                self._broker.declare(connection, item)
            except BrokerRefused as error:
                LOG.error("%s cannot be declared again after the reconnect: %s", item, error)  # noqa: TRY400  # expected
        self._connection = connection

    def break_connection(self) -> None:
        """Cut the connection as a failing network would; the link heals itself (for fault injection)."""
        with self._sending:
            connection, self._connection = self._connection, None
            if connection is not None:
                consumers = [each for one in self._subscriptions for each in one.consumers()]
                self._broker.disconnect(connection, consumers)
                self._events.put(self._lost)

    def _lost(self) -> None:
        for subscription in self._subscriptions:
            subscription.lost("the connection was broken")
        self.later(Backoff(_RECONNECT_SECONDS).next(), self._reconnect)

    def _reconnect(self) -> None:
        if self._connection is not None or self._closing.is_set():
            return
        self._connect()
        for subscription in self._subscriptions:
            subscription.reopen(self._connection)
        self._send_waiting()
        for callback in self._on_reconnect:
            call_back(callback)

    def close(self, timeout: float) -> None:
        """See the port."""
        if self._closing.is_set():
            return
        with self._sending:
            self._closing.set()
        if not self._thread.is_alive():
            self._end()
            return
        self._events.put(self._end)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _end(self) -> None:
        self._send_waiting()
        with self._sending:
            connection, self._connection = self._connection, None
            lost, self._waiting = self._waiting, deque()
        consumers = [each for one in self._subscriptions for each in one.consumers()]
        if connection is not None:
            self._broker.disconnect(connection, consumers)
        for _, on_settled in lost:
            if on_settled is not None:
                call_back(on_settled, PublishResult.LOST)
        self._ended = True
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                return
            event()


def _nothing() -> None:
    """Wake the thread so that it looks at the clock again."""


def _identity(item: Item) -> object:
    return item if isinstance(item, Binding) else (type(item), item.name)


def _names_queue(item: Item, name: str) -> bool:
    return (isinstance(item, Queue) and item.name == name) or (isinstance(item, Binding) and item.queue == name)


def _report_failure(future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        LOG.error("a request made from a callback failed: %s", error)
