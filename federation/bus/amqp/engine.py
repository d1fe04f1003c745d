"""One link's connection: made, set up, kept alive, and made again, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError

from federation.bus.address import Address
from federation.bus.amqp.declarations import Declarations
from federation.bus.amqp.dial import RefusedForGood, dial_any, tls_context
from federation.bus.amqp.loop import Loop
from federation.bus.amqp.outbox import Outbox
from federation.bus.amqp.requests import Request
from federation.bus.amqp.subscription import AmqpSubscription
from federation.bus.amqp.wire import PUBLISH_CHANNEL, Wire
from federation.bus.backoff import Backoff
from federation.bus.broker_versions import known_defects
from federation.bus.callbacks import call_back
from federation.bus.errors import BrokerRefused, BusError, BusTimeout, BusUnavailable, LinkClosed, UnsupportedBroker

LOG = logging.getLogger(__name__)
_GOODBYE_SECONDS = 1.0
_LOOK_AGAIN_AFTER = (1.0, 4.0, 15.0, 60.0)
"""Seconds, one behind the other: a dead node is noticed after 60 s at the latest, by RabbitMQ's defaults."""
_STEADY_SECONDS = 5.0
"""A connection that stood this long has earned a quick first reconnect."""


class Engine:
    """The connection of one link and the thread that owns it."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.outbox = Outbox(address.user, address.options)
        self.loop = Loop(address.options, self.outbox)
        self.declarations = Declarations()
        self.subscriptions: list[AmqpSubscription] = []
        self.wire: Wire | None = None
        """The connection once it is set up; None before and between."""
        self.broker_version: str | None = None
        self.reconnect_callbacks: list[Callable[[], None]] = []
        self._name = name
        self._connection: Wire | None = None
        self._host = 0
        self._announced = True
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
        self.loop.submit(Request(lambda _: None, self._close_by))  # ends the sleep
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
        self.loop.submit(request)
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

    # -- on the I/O thread -------------------------------------------------------------------------------------------

    def announce_if_standing(self) -> None:
        """Tell the link's users, once per reconnect, that everything stands again."""
        if self._announced or self.declarations.to_repair or not all(each.stands for each in self.subscriptions):
            return
        self._announced = True
        for callback in self.reconnect_callbacks:
            call_back(callback)

    def _run(self) -> None:
        backoff = Backoff(self.address.options.reconnect_max)
        while not self.closing:
            since = None
            try:
                wire = self._connect()
                since = monotonic()
                self.loop.run(wire, self._closing.is_set, lambda: self._close_by)
                with self.loop.limited(max(self._close_by - monotonic(), _GOODBYE_SECONDS)):
                    wire.close()
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
            wire, self._host = dial_any(self.address, self._name, self.loop.turn_for_answer, context, self._host)
            self._connection = wire
            self.broker_version = wire.announced
            self.loop.begin(wire)
            self._open_publishing()
            self.declarations.restore(wire, self.loop.limited)
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
            self._look_again_later(wire, _LOOK_AGAIN_AFTER)
            return
        for defect in known_defects(self.broker_version or ""):
            LOG.warning("%s has a known defect: %s", self.broker_version, defect)
        self._started.set_result(None)

    def _repair_later(self, backoff: Backoff) -> None:
        def repair() -> None:
            if self.wire is None:
                return
            self.declarations.repair(self.wire, self.loop.limited)
            if self.declarations.to_repair:
                self.loop.later(backoff.next(), repair)
            else:
                self.announce_if_standing()
                self._look_again_later(self.wire, _LOOK_AGAIN_AFTER)

        self.loop.later(backoff.next(), repair)

    def _look_again_later(self, wire: Wire, pauses: tuple[float, ...]) -> None:
        """For as long as the broker may be burying what stood before; a repair begins anew, and so does a lost queue."""

        def look() -> None:
            if self.wire is not wire or self.declarations.to_repair:
                return
            self.declarations.see_to_exclusive_queues(wire, self.loop.limited)
            if self.declarations.to_repair:
                self._repair_later(Backoff(self.address.options.reconnect_max))
            else:
                self._look_again_later(wire, pauses[1:])

        if pauses:
            self.loop.later(pauses[0], look)

    def _open_publishing(self) -> None:
        wire = self._connection
        if wire is None:
            return
        with self.loop.limited(self.address.options.write_timeout):
            channel = wire.channel(PUBLISH_CHANNEL)
            channel.on_lost = self._publishing_lost
            channel.confirm_select()
        self.outbox.begin(wire.frame_max)
        self.loop.flowing = True

    def _publishing_lost(self, error: BrokerRefused) -> None:
        LOG.error("the broker closed the publishing channel, what was under way on it is lost: %s", error)
        self.loop.flowing = False
        self.loop.inbound.route(PUBLISH_CHANNEL, None)
        self.outbox.lose_sent()
        self.loop.later(0, self._open_publishing)

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
        self.wire = None
        self.loop.end()
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    def _end(self) -> None:
        self._disconnect()
        self.outbox.lose_all()
        self.loop.close()
