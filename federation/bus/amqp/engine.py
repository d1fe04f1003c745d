"""The I/O thread of one link: it owns the connection, keeps it alive and calls the link's users back.

One turn of :meth:`Engine._pump` sends what waits (publications and settlings of any thread, in batches), reads what
has come and hands it out.  Requests and timers run between turns, one at a time; while one of them waits for the
broker, the pump goes on turning.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from itertools import count
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError

from federation.bus.address import Address
from federation.bus.amqp.declarations import Declarations
from federation.bus.amqp.dial import RefusedForGood, dial_any, tls_context
from federation.bus.amqp.inbound import Inbound
from federation.bus.amqp.outbox import Outbox
from federation.bus.amqp.requests import Request, Requests
from federation.bus.amqp.subscription import AmqpSubscription
from federation.bus.amqp.waiting import Waiter
from federation.bus.amqp.wire import PUBLISH_CHANNEL, Wire
from federation.bus.backoff import Backoff
from federation.bus.broker_versions import known_defects, read_announcement
from federation.bus.callbacks import call_back
from federation.bus.errors import BrokerRefused, BusError, BusTimeout, BusUnavailable, LinkClosed, UnsupportedBroker

LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
_STEADY_SECONDS = 5.0
"""A connection that stood this long has earned a quick first reconnect."""

Encode = Callable[[int, int], bytes]


class Engine:
    """The connection of one link and the thread that owns it."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.outbox = Outbox(address.user, address.options)
        self.inbound = Inbound(self.outbox)
        self.declarations = Declarations()
        self.subscriptions: list[AmqpSubscription] = []
        self.wire: Wire | None = None
        """The connection once it is set up; None before and between."""
        self.broker_version: str | None = None
        self.reconnect_callbacks: list[Callable[[], None]] = []
        self._name = name
        self._connection: Wire | None = None
        self._host = 0
        self._requests = Requests()
        self._settlings: deque[tuple[AmqpSubscription, object, Encode]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = count()
        self._flowing = False
        self._announced = True
        self._limit: float | None = None
        self._next_tick = 0.0
        self._waiter = Waiter()
        self._closing = threading.Event()
        self._close_by = 0.0
        self._start_by = 0.0
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"bus {name}", daemon=True)

    # -- from any thread ---------------------------------------------------------------------------------------------

    def start(self, timeout: float) -> None:
        """Start the thread and wait for the first connection; raises BusUnavailable."""
        self._start_by = monotonic() + timeout
        self._thread.start()
        try:
            self._started.result(timeout + self.address.options.connect_timeout)
        except FutureTimeoutError as error:
            self.stop(0)
            raise BusUnavailable(f"no connection to {self.address} within {timeout:g} s") from error

    def stop(self, timeout: float) -> None:
        """Send what waits, disconnect, end the thread."""
        self._close_by = monotonic() + timeout
        self._closing.set()
        self._waiter.wake()
        if self._thread.is_alive() and not self.on_io_thread:
            self._thread.join(timeout + self.address.options.connect_timeout)

    @property
    def closing(self) -> bool:
        """Whether the link was closed."""
        return self._closing.is_set()

    @property
    def on_io_thread(self) -> bool:
        """Whether the caller is a callback of this link."""
        return threading.current_thread() is self._thread

    def wake(self) -> None:
        """There is something to send."""
        self._waiter.wake()

    def settle(self, subscription: AmqpSubscription, key: object, encode: Encode) -> None:
        """Send one settling of a delivery soon."""
        self._settlings.append((subscription, key, encode))
        self._waiter.wake()

    def request(self, run: Callable[[Wire], Any], timeout: float) -> Any:
        """Run broker methods on the I/O thread and wait for them.

        Raises what ``run`` raises, BusTimeout, BusUnavailable (no connection within the timeout), LinkClosed, or
        BusError when called from a callback, where it would wait for itself.
        """
        if self.on_io_thread:
            raise BusError("a callback of the bus may not wait for the broker; do it on another thread")
        try:
            return self._submit(run, timeout).wait()
        except BusTimeout as error:
            if self.wire is None:
                raise BusUnavailable(f"there is no connection to {self.address}") from error
            raise

    def request_or_post(self, run: Callable[[Wire], Any], timeout: float) -> None:
        """As :meth:`request`; from a callback, do it soon without waiting, and report a failure."""
        if self.on_io_thread:
            self._submit(run, timeout).report_failure()
        else:
            self.request(run, timeout)

    def _submit(self, run: Callable[[Wire], Any], timeout: float) -> Request:
        if self.closing:
            raise LinkClosed("the link is closed")
        request = Request(run, monotonic() + timeout)
        self._requests.add(request)
        self._waiter.wake()
        return request

    def open_subscription(self, subscription: AmqpSubscription, timeout: float) -> None:
        """Open a subscription and keep it standing; raises BrokerRefused."""

        def run(wire: Wire) -> None:
            subscription.open(wire)
            self.subscriptions.append(subscription)

        self.request(run, timeout)

    def close_subscription(self, subscription: AmqpSubscription, timeout: float) -> None:
        """Close a subscription's channel, if there still is one."""

        def run(_: Wire) -> None:
            if subscription in self.subscriptions:
                self.subscriptions.remove(subscription)
            subscription.close_now()

        subscription.end()
        try:
            self.request_or_post(run, timeout)
        except (LinkClosed, BusUnavailable) as error:
            LOG.info("the channel went with its connection: %s", error)

    def break_connection(self) -> None:
        """Cut the connection as a failing network would (for fault injection)."""
        wire = self._connection
        if wire is not None:
            wire.cut()

    # -- for the subscriptions, on the I/O thread --------------------------------------------------------------------

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something between turns of the pump; forgotten when the connection is lost."""
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._timer_ids), run))

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Within this, what waits for the broker longer than so many seconds raises BusTimeout."""
        before = self._limit
        wanted = monotonic() + seconds
        self._limit = wanted if before is None else min(before, wanted)
        try:
            yield
        finally:
            self._limit = before

    def announce_if_standing(self) -> None:
        """Tell the link's users, once per reconnect, that everything stands again."""
        if self._announced or self.declarations.to_repair or not all(each.stands for each in self.subscriptions):
            return
        self._announced = True
        for callback in self.reconnect_callbacks:
            call_back(callback)

    # -- connecting and losing ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(self.address.options.reconnect_max)
        while not self.closing:
            since = None
            try:
                wire = self._connect()
                since = monotonic()
                self._serve(wire)
            except (AMQPError, OSError, BusError) as error:
                self._lose(error)
            except Exception as error:
                LOG.exception("the I/O thread of the bus failed; it connects again")
                self._lose(error)
            if since is not None and monotonic() - since > _STEADY_SECONDS:
                backoff.reset()
            if not self.closing:
                self._closing.wait(backoff.next())
        self._end()

    def _connect(self) -> Wire:
        try:
            context = tls_context(self.address)
            wire, self._host = dial_any(self.address, self._name, self._pump_for_answer, context, self._host)
            self._connection = wire
            self.broker_version = read_announcement(wire.server_properties)
            self.inbound.add(wire.take_left_over())
            self._next_tick = 0.0
            self._open_publishing()
            self.declarations.restore(wire, self.limited)
        except (AMQPError, OSError, BusError) as error:
            final = isinstance(error, RefusedForGood | UnsupportedBroker) or monotonic() >= self._start_by
            if not self._started.done() and final:
                self._closing.set()
                self._started.set_exception(error if isinstance(error, BusUnavailable) else BusUnavailable(str(error)))
            raise
        self._stand_up(wire)
        return wire

    def _stand_up(self, wire: Wire) -> None:
        self.wire = wire
        for subscription in list(self.subscriptions):
            subscription.open(wire)
        if self.declarations.to_repair:
            self._repair_later(Backoff(self.address.options.reconnect_max))
        LOG.info("%s: connected to %s, %s", self._name, self.address.endpoints[self._host], self.broker_version)
        if self._started.done():
            self._announced = False
            self.announce_if_standing()
            return
        for defect in known_defects(self.broker_version or ""):
            LOG.warning("%s has a known defect: %s", self.broker_version, defect)
        self._started.set_result(None)

    def _repair_later(self, backoff: Backoff) -> None:
        def repair() -> None:
            if self.wire is None:
                return
            self.declarations.repair(self.wire, self.limited)
            if self.declarations.to_repair:
                self.later(backoff.next(), repair)
            else:
                self.announce_if_standing()

        self.later(backoff.next(), repair)

    def _open_publishing(self) -> None:
        wire = self._connection
        if wire is None:
            return
        with self.limited(self.address.options.write_timeout):
            channel = wire.channel(PUBLISH_CHANNEL)
            channel.on_lost = self._publishing_lost
            channel.confirm_select()
        self.outbox.begin(wire.frame_max)
        self._flowing = True

    def _publishing_lost(self, error: BrokerRefused) -> None:
        LOG.error("the broker closed the publishing channel, what was under way on it is lost: %s", error)
        self._flowing = False
        self.inbound.route(PUBLISH_CHANNEL, None)
        self.outbox.lose_sent()
        self.later(0, self._open_publishing)

    def _lose(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        had = self._connection is not None
        if not self.closing:
            host = self.address.endpoints[self._host]
            LOG.warning("%s: %s", self._name, f"lost the connection to {host}: {reason}" if had else reason)
        self._disconnect()
        self.outbox.lose_sent()
        for subscription in self.subscriptions:
            subscription.lost(reason)
        if had:
            self._host = (self._host + 1) % len(self.address.endpoints)

    def _disconnect(self) -> None:
        self._flowing = False
        self.wire = None
        self._limit = None
        self._waiter.unwatch()
        if self._connection is not None:
            self._connection.drop()
            self._connection = None
        self.inbound.clear()
        self._settlings.clear()
        self._timers.clear()

    def _end(self) -> None:
        self._disconnect()
        self.outbox.lose_all()
        self._requests.give_up()
        self._waiter.close()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _serve(self, wire: Wire) -> None:
        while True:
            pause = _IDLE_SECONDS
            if self._timers:
                pause = min(pause, max(0.0, self._timers[0][0] - monotonic()))
            self._pump(wire, pause)
            while self._timers and self._timers[0][0] <= monotonic():
                heapq.heappop(self._timers)[2]()
            while self._requests:
                self._drain(wire)
                self._requests.perform_next(wire, self.limited)
            if self.closing and ((not len(self.outbox) and not self._settlings) or monotonic() >= self._close_by):
                self._drain(wire)
                with self.limited(max(self._close_by - monotonic(), _IDLE_SECONDS)):
                    wire.close()
                return

    def _pump_for_answer(self) -> None:
        """One turn while a py-amqp method waits for its answer."""
        pause = _IDLE_SECONDS
        if self._limit is not None:
            pause = min(pause, self._limit - monotonic())
            if pause <= 0:
                raise BusTimeout("the broker did not answer in time")
        if self._connection is None:
            raise ConnectionResetError("the connection was closed")
        self._pump(self._connection, pause, nested=True)

    def _drain(self, wire: Wire) -> None:
        if self._flowing and not wire.blocked:
            self.outbox.drain(wire.out)
        settlings = self._settlings
        while settlings:
            subscription, key, encode = settlings.popleft()
            subscription.write_settling(key, encode, wire.out)

    def _pump(self, wire: Wire, timeout: float, *, nested: bool = False) -> None:
        if self.inbound:
            self.inbound.dispatch(wire.on_inbound_frame)
            return
        self._drain(wire)
        self._waiter.watch(wire.sock, for_writing=not wire.flush())
        now = monotonic()
        if now >= self._next_tick:
            self._tick(wire, now)
        unread = wire.has_unread_input
        self._waiter.announce()
        if unread or self._has_work(wire, nested=nested):
            timeout = 0
        if self._waiter.sleep(timeout) or unread:
            self.inbound.add(wire.receive())
            self.inbound.dispatch(wire.on_inbound_frame)

    def _has_work(self, wire: Wire, *, nested: bool) -> bool:
        """Whether another thread has added something since the last look (or the link is to close)."""
        if self._settlings or (self.outbox.has_waiting and self._flowing and not wire.blocked):
            return True
        return not nested and (bool(self._requests) or self.closing)

    def _tick(self, wire: Wire, now: float) -> None:
        options = self.address.options
        wire.heartbeat_tick()
        self._next_tick = now + min(_IDLE_SECONDS, (wire.heartbeat or _IDLE_SECONDS * 4) / 4)
        if wire.unread_for(now) > options.write_timeout:
            raise TimeoutError(f"the broker has not read for {options.write_timeout:g} s")
        self.outbox.expire(now)
