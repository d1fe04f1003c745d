"""The turning of one link's I/O thread: send what waits, read what has come, hand it out, do what is due.

Any thread may add work (:meth:`Loop.settle`, :meth:`Loop.submit`, publications through the outbox and then
:meth:`Loop.wake`); the rest belongs to the I/O thread.  Requests and timers run between turns, one at a time; while one
of them waits for the broker, the loop goes on turning.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from time import monotonic
from typing import Protocol

from federation.bus.address import LinkOptions
from federation.bus.amqp.inbound import Inbound
from federation.bus.amqp.outbox import Outbox
from federation.bus.amqp.requests import Request, Requests
from federation.bus.amqp.waiting import Waiter
from federation.bus.amqp.wire import Wire
from federation.bus.errors import BusTimeout

_IDLE_SECONDS = 1.0

Encode = Callable[[int, int], bytes]


class Settling(Protocol):
    """Whoever consumed a delivery and knows whether it can still be settled."""

    def write_settling(self, key: object, encode: Encode, out: bytearray) -> None:
        """Append the frame of one settling, unless the broker has taken the delivery back."""


class Loop:
    """See the module."""

    def __init__(self, options: LinkOptions, outbox: Outbox) -> None:
        self.inbound = Inbound(outbox)
        self.flowing = False
        """Whether publications may be sent; without, they wait."""
        self._options = options
        self._outbox = outbox
        self._requests = Requests()
        self._settlings: deque[tuple[Settling, object, Encode]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = count()
        self._waiter = Waiter()
        self._limit: float | None = None
        self._next_tick = 0.0
        self._wire: Wire | None = None

    # -- from any thread ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to do."""
        self._waiter.wake()

    def settle(self, subscription: Settling, key: object, encode: Encode) -> None:
        """Send one settling of a delivery soon."""
        self._settlings.append((subscription, key, encode))
        self._waiter.wake()

    def submit(self, request: Request) -> None:
        """Do this between two turns."""
        self._requests.add(request)
        self._waiter.wake()

    # -- on the I/O thread -------------------------------------------------------------------------------------------

    def begin(self, wire: Wire) -> None:
        """A connection stands."""
        self._wire = wire
        self._next_tick = 0.0
        self.inbound.add(wire.take_left_over())

    def end(self) -> None:
        """The connection is lost: forget all that was of it; requests stay."""
        self._wire = None
        self.flowing = False
        self._limit = None
        self._waiter.unwatch()
        self.inbound.clear()
        self._settlings.clear()
        self._timers.clear()

    def close(self) -> None:
        """The link ends."""
        self._requests.give_up()
        self._waiter.close()

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        """Run something between two turns, then; forgotten when the connection is lost."""
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

    def run(self, wire: Wire, closing: Callable[[], bool], close_by: Callable[[], float]) -> None:
        """Turn until the link is closing and all is sent and answered, or ``close_by`` (monotonic seconds) has come."""
        while True:
            pause = _IDLE_SECONDS
            if self._timers:
                pause = min(pause, max(0.0, self._timers[0][0] - monotonic()))
            if closing():
                pause = min(pause, max(0.0, close_by() - monotonic()))
            self._turn(wire, pause)
            while self._timers and self._timers[0][0] <= monotonic():
                heapq.heappop(self._timers)[2]()
            while self._requests:
                self._drain(wire)
                self._requests.perform_next(wire, self.limited)
            if closing() and ((not len(self._outbox) and not self._settlings) or monotonic() >= close_by()):
                self._drain(wire)
                return

    def turn_for_answer(self) -> None:
        """One turn while a py-amqp method waits for its answer."""
        pause = _IDLE_SECONDS
        if self._limit is not None:
            pause = min(pause, self._limit - monotonic())
            if pause <= 0:
                raise BusTimeout("the broker did not answer in time")
        if self._wire is None:
            raise ConnectionResetError("the connection was closed")
        self._turn(self._wire, pause, nested=True)

    def _turn(self, wire: Wire, timeout: float, *, nested: bool = False) -> None:
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

    def _drain(self, wire: Wire) -> None:
        if self.flowing and not wire.blocked:
            self._outbox.drain(wire.out)
        settlings = self._settlings
        while settlings:
            subscription, key, encode = settlings.popleft()
            subscription.write_settling(key, encode, wire.out)

    def _has_work(self, wire: Wire, *, nested: bool) -> bool:
        """Whether another thread has added something since the last look."""
        if self._settlings or (self._outbox.has_waiting and self.flowing and not wire.blocked):
            return True
        return not nested and bool(self._requests)

    def _tick(self, wire: Wire, now: float) -> None:
        wire.heartbeat_tick()
        self._next_tick = now + min(_IDLE_SECONDS, (wire.heartbeat or _IDLE_SECONDS * 4) / 4)
        if wire.unread_for(now) > self._options.write_timeout:
            raise TimeoutError(f"the broker has not read for {self._options.write_timeout:g} s")
        self._outbox.expire(now)
