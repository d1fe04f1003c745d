"""The I/O thread of one link: it owns the connection, keeps it alive and calls the link's users back.

One turn of :meth:`Engine._pump` sends what waits (publications and settlings of any thread, in batches), reads what
has come and hands it out.  Requests (declare, subscribe…) run between turns, one at a time; while one waits for the
broker the pump goes on turning.
"""

from __future__ import annotations

import heapq
import logging
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError

from federation.bus.address import Address
from federation.bus.amqp.declarations import Declarations
from federation.bus.amqp.dial import RefusedForGood, dial_any, tls_context
from federation.bus.amqp.frames import ACK, BODY, DELIVER, HEADER, METHOD, NACK, RETURN, Content, decode_confirm
from federation.bus.amqp.outbox import Outbox
from federation.bus.amqp.subscription import AmqpSubscription
from federation.bus.amqp.wire import PUBLISH_CHANNEL, Wire
from federation.bus.backoff import Backoff
from federation.bus.broker_versions import known_defects, read_announcement
from federation.bus.callbacks import call_back
from federation.bus.errors import BrokerRefused, BusError, BusTimeout, BusUnavailable, LinkClosed, UnsupportedBroker
from federation.bus.link import PublishResult

LOG = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
_STEADY_SECONDS = 5.0
"""A connection that stood this long has earned a quick first reconnect."""


@dataclass(slots=True)
class _Request:
    run: Callable[[Wire], Any]
    future: Future[Any]
    deadline: float


class Engine:
    """The connection of one link and the thread that owns it."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.outbox = Outbox(address.user, address.options)
        self.declarations = Declarations()
        self.subscriptions: list[AmqpSubscription] = []
        self.wire: Wire | None = None
        """The connection once it is set up; None before and between."""
        self.broker_version: str | None = None
        self.reconnect_callbacks: list[Callable[[], None]] = []
        self._name = name
        self._connection: Wire | None = None
        self._host = 0
        self._requests: deque[_Request] = deque()
        self._settlings: deque[tuple[AmqpSubscription, object, Callable[[int, int], bytes]]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = count()
        self._inbox: deque[tuple[int, int, bytes]] = deque()
        self._contents: dict[int, Content] = {}
        self._routes: dict[int, AmqpSubscription] = {}
        self._flowing = False
        self._announced = True
        self._asleep = False
        self._request_deadline: float | None = None
        self._next_tick = 0.0
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)  # noqa: FBT003
        self._wakee.setblocking(False)  # noqa: FBT003
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._watched: tuple[socket.socket, int] | None = None
        self._closing = threading.Event()
        self._close_by = 0.0
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
            msg = f"no connection to {self.address} within {timeout:g} s"
            raise BusUnavailable(msg) from error

    def stop(self, timeout: float) -> None:
        """Send what waits, disconnect, end the thread."""
        self._close_by = monotonic() + timeout
        self._closing.set()
        self.wake(force=True)
        if self._thread.is_alive() and not self.on_io_thread:
            self._thread.join(timeout + self.address.options.connect_timeout)

    @property
    def closing(self) -> bool:
        """Whether the link was closed."""
        return self._closing.is_set()

    def wake(self, *, force: bool = False) -> None:
        """End the I/O thread's sleep, if it sleeps."""
        if self._asleep or force:
            self._asleep = False
            try:
                self._waker.send(b"\0")
            except BlockingIOError:
                return  # a wake-up is under way already
            except OSError:
                if not self.closing:
                    raise

    def settle(self, subscription: AmqpSubscription, key: object, encode: Callable[[int, int], bytes]) -> None:
        """Send one settling of a delivery soon."""
        self._settlings.append((subscription, key, encode))
        self.wake()

    def request(self, run: Callable[[Wire], Any], timeout: float) -> Any:
        """Run broker methods on the I/O thread and wait for them.

        Raises what ``run`` raises, BusTimeout, BusUnavailable (no connection within the timeout), LinkClosed, or
        BusError when called from a callback, where it would wait for itself.
        """
        if self.on_io_thread:
            raise BusError("a callback of the bus may not wait for the broker; do it on another thread")
        request = self._submit(run, timeout)
        try:
            return request.future.result(timeout + 1.0)
        except FutureTimeoutError as error:
            request.future.cancel()
            msg = f"the broker did not answer within {timeout:g} s"
            raise (BusTimeout(msg) if self.wire is not None else BusUnavailable(msg)) from error

    def request_or_post(self, run: Callable[[Wire], Any], timeout: float) -> None:
        """As :meth:`request`; from a callback, do it soon without waiting, and report a failure."""
        if self.on_io_thread:
            self._submit(run, timeout).future.add_done_callback(_report_failure)
        else:
            self.request(run, timeout)

    @property
    def on_io_thread(self) -> bool:
        """Whether the caller is a callback of this link."""
        return threading.current_thread() is self._thread

    def _submit(self, run: Callable[[Wire], Any], timeout: float) -> _Request:
        if self.closing:
            raise LinkClosed("the link is closed")
        request = _Request(run, Future(), monotonic() + timeout)
        self._requests.append(request)
        self.wake(force=True)
        return request

    def open_subscription(self, subscription: AmqpSubscription, timeout: float) -> None:
        """Open a subscription and keep it standing; raises BrokerRefused."""

        def run(wire: Wire) -> None:
            subscription.open(wire)
            self.subscriptions.append(subscription)

        self.request(run, timeout)

    def close_subscription(self, subscription: AmqpSubscription, timeout: float) -> None:
        """Close a subscription's channel, if there still is one."""
        if self.closing or self.wire is None:
            subscription.end()
        try:
            self.request_or_post(lambda wire: self._close_subscription(subscription, wire), timeout)
        except (LinkClosed, BusUnavailable):
            subscription.end()

    def _close_subscription(self, subscription: AmqpSubscription, wire: Wire) -> None:
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
        subscription.close_now(wire)

    def break_connection(self) -> None:
        """Cut the connection as a failing network would (for fault injection)."""
        wire = self._connection
        if wire is not None and wire.connected:
            try:
                wire.transport.sock.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                LOG.info("the connection was gone already: %s", error)

    # -- the I/O thread ----------------------------------------------------------------------------------------------

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something between turns of the pump, soon."""
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._timer_ids), run))

    def route(self, channel_id: int, subscription: AmqpSubscription | None) -> None:
        """Say who gets the deliveries of a channel."""
        self._contents.pop(channel_id, None)
        if subscription is None:
            self._routes.pop(channel_id, None)
        else:
            self._routes[channel_id] = subscription

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
                self._connect()
                since = monotonic()
                self._serve()
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

    def _connect(self) -> None:
        again = self._started.done()
        try:
            context = tls_context(self.address)
            self._connection, self._host = dial_any(self.address, self._name, self._nested_pump, context, self._host)
            wire = self._connection
            self.broker_version = read_announcement(wire.server_properties)
            self._watch(selectors.EVENT_READ)
            self._inbox.extend(wire.take_left_over())
            self._request_deadline = monotonic() + self.address.options.write_timeout
            self._open_publishing()
            self.declarations.restore(wire)
            self._request_deadline = None
        except (AMQPError, OSError, BusError) as error:
            final = isinstance(error, RefusedForGood | UnsupportedBroker) or monotonic() >= self._start_by
            if not again and final:
                self._closing.set()
                reason = error if isinstance(error, BusUnavailable) else BusUnavailable(str(error))
                self._started.set_exception(reason)
            raise
        self.wire = wire
        for subscription in list(self.subscriptions):
            subscription.open(wire)
        if self.declarations.to_repair:
            self._repair_later(Backoff(self.address.options.reconnect_max))
        LOG.info("%s: connected to %s, %s", self._name, self.address.endpoints[self._host], self.broker_version)
        if again:
            self._announced = False
            self.announce_if_standing()
        else:
            for defect in known_defects(self.broker_version):
                LOG.warning("%s has a known defect: %s", self.broker_version, defect)
            self._started.set_result(None)

    def _repair_later(self, backoff: Backoff) -> None:
        def repair() -> None:
            if self.wire is None:
                return
            self.declarations.repair(self.wire)
            if self.declarations.to_repair:
                self.later(backoff.next(), repair)
            else:
                self.announce_if_standing()

        self.later(backoff.next(), repair)

    def _open_publishing(self) -> None:
        wire = self._connection
        if wire is None:
            return
        channel = wire.channel(PUBLISH_CHANNEL)
        channel.on_lost = self._publishing_lost
        channel.confirm_select()
        self.outbox.begin(wire.frame_max)
        self._flowing = True

    def _publishing_lost(self, error: BrokerRefused) -> None:
        LOG.error("the broker closed the publishing channel, what was under way on it is lost: %s", error)
        self._flowing = False
        self._contents.pop(PUBLISH_CHANNEL, None)
        self.outbox.lose_sent()
        self.later(0, self._open_publishing)

    def _lose(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        had = self._connection is not None
        if had and not self.closing:
            LOG.warning("%s: lost the connection to %s: %s", self._name, self.address.endpoints[self._host], reason)
        elif not self.closing:
            LOG.warning("%s: %s", self._name, reason)
        self._disconnect()
        self.outbox.lose_sent()
        for subscription in self.subscriptions:
            subscription.lost(reason)
        if had:
            self._host = (self._host + 1) % len(self.address.endpoints)

    def _disconnect(self) -> None:
        self._flowing = False
        self.wire = None
        self._request_deadline = None
        if self._watched is not None:
            self._selector.unregister(self._watched[0])
            self._watched = None
        if self._connection is not None:
            self._connection.drop()
            self._connection = None
        self._inbox.clear()
        self._contents.clear()
        self._routes.clear()
        self._settlings.clear()
        self._timers.clear()

    def _end(self) -> None:
        self._disconnect()
        self.outbox.lose_all()
        while self._requests:
            msg = "the link was closed"
            _finish(self._requests.popleft().future, error=LinkClosed(msg))
        self._selector.close()
        self._waker.close()
        self._wakee.close()

    def _serve(self) -> None:
        wire = self._connection
        while wire is not None:
            pause = _IDLE_SECONDS
            if self._timers:
                pause = min(pause, max(0.0, self._timers[0][0] - monotonic()))
            self._pump(0 if self._requests else pause)
            while self._timers and self._timers[0][0] <= monotonic():
                heapq.heappop(self._timers)[2]()
            while self._requests:
                self._run_request(self._requests.popleft(), wire)
            if self.closing and ((not len(self.outbox) and not self._settlings) or monotonic() >= self._close_by):
                self._request_deadline = max(self._close_by, monotonic() + _IDLE_SECONDS)
                wire.close()
                return

    def _run_request(self, request: _Request, wire: Wire) -> None:
        if not request.future.running() and not request.future.set_running_or_notify_cancel():
            return
        if monotonic() >= request.deadline:
            msg = "the broker did not answer in time"
            _finish(request.future, error=BusTimeout(msg))
            return
        self._drain(wire)
        self._request_deadline = request.deadline
        try:
            result = request.run(wire)
        except BusError as error:
            _finish(request.future, error=error)
        except (AMQPError, OSError):
            self._requests.appendleft(request)  # everything requested may be done twice
            raise
        except Exception as error:
            _finish(request.future, error=error)
            raise
        else:
            _finish(request.future, result)
        finally:
            self._request_deadline = None

    def _nested_pump(self) -> None:
        """One turn while a py-amqp method waits for its answer."""
        if self._request_deadline is not None and monotonic() >= self._request_deadline:
            msg = "the broker did not answer in time"
            raise BusTimeout(msg)
        self._pump(0.1)

    def _drain(self, wire: Wire) -> None:
        if self._flowing and not wire.blocked:
            self.outbox.drain(wire.out)
        settlings = self._settlings
        while settlings:
            subscription, key, encode = settlings.popleft()
            subscription.write_settling(key, encode, wire.out)

    def _pump(self, timeout: float) -> None:
        wire = self._connection
        if wire is None:
            msg = "not connected"
            raise ConnectionResetError(msg)
        if self._inbox:
            self._dispatch()
            return
        self._drain(wire)
        self._watch(selectors.EVENT_READ if wire.flush() else selectors.EVENT_READ | selectors.EVENT_WRITE)
        now = monotonic()
        if now >= self._next_tick:
            self._tick(wire, now)
        self._asleep = True
        may_send = self._flowing and not wire.blocked and self.outbox.has_waiting
        if self._settlings or may_send or wire.has_unread_input or (self._requests and not self._request_deadline):
            timeout = 0
        readable = wire.has_unread_input
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wakee:
                self._wakee.recv(4096)
            elif events & selectors.EVENT_READ:
                readable = True
        self._asleep = False
        if readable:
            self._inbox.extend(wire.receive())
            self._dispatch()

    def _tick(self, wire: Wire, now: float) -> None:
        options = self.address.options
        wire.heartbeat_tick()
        self._next_tick = now + min(_IDLE_SECONDS, (wire.heartbeat or _IDLE_SECONDS * 4) / 4)
        if wire.unread_for(now) > options.write_timeout:
            msg = f"the broker has not read for {options.write_timeout:g} s"
            raise TimeoutError(msg)
        self.outbox.expire(now)

    def _watch(self, events: int) -> None:
        sock = self._connection.transport.sock if self._connection is not None else None
        if sock is None or self._watched == (sock, events):
            return
        if self._watched is None:
            self._selector.register(sock, events)
        else:
            self._selector.modify(sock, events)
        self._watched = (sock, events)

    def _dispatch(self) -> None:
        inbox = self._inbox
        contents = self._contents
        while inbox:
            kind, channel, payload = inbox.popleft()
            if kind == METHOD:
                method = payload[:4]
                if method in (DELIVER, RETURN):
                    contents[channel] = Content(method, payload)
                elif method == ACK:
                    tag, multiple = decode_confirm(payload)
                    self.outbox.confirm(tag, PublishResult.CONFIRMED, multiple=multiple)
                elif method == NACK:
                    tag, multiple = decode_confirm(payload)
                    self.outbox.confirm(tag, PublishResult.NACKED, multiple=multiple)
                else:
                    self._connection.on_inbound_frame((kind, channel, payload))  # type: ignore[union-attr]
            elif kind == HEADER:
                if contents[channel].add_header(payload):
                    self._take(channel)
            elif kind == BODY and contents[channel].add_body(payload):
                self._take(channel)

    def _take(self, channel: int) -> None:
        content = self._contents.pop(channel)
        if content.method == RETURN:
            self.outbox.returned(content.properties.get("app_id"))
            return
        subscription = self._routes.get(channel)
        if subscription is not None:
            subscription.deliver(content)


def _finish(future: Future[Any], result: object = None, error: Exception | None = None) -> None:
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        LOG.info("a request was given up before it was done")


def _report_failure(future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        LOG.error("a request made from a callback failed: %s", error)
