"""Callers that wait for replies: one reply queue for all of a transport's calls, found again by correlation id."""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from queue import Empty, SimpleQueue

import oslo_messaging

from federation.bus.link import Consumption, Delivery, Link, PublishResult
from federation.bus.oslo.body import HEARTBEAT_HEADER

LOG = logging.getLogger(__name__)


class Waiter:
    """One call in flight; the link's I/O thread tells it what happens, the caller's thread waits."""

    def __init__(self, correlation_id: str, deadline: float | None, monitor: float | None) -> None:
        self.correlation_id = correlation_id
        self._deadline = deadline
        self._monitor = monitor
        self._events: SimpleQueue[Delivery | PublishResult] = SimpleQueue()
        self._alive_at = time.monotonic()

    def settled(self, result: PublishResult) -> None:
        """What became of the request; a confirmed one wakes nobody, since only the reply counts."""
        if result is not PublishResult.CONFIRMED:
            self._events.put(result)

    def arrived(self, delivery: Delivery) -> None:
        """The reply, or a sign that the server still works on it."""
        if HEARTBEAT_HEADER in delivery.headers:
            self._alive_at = time.monotonic()
        else:
            self._events.put(delivery)

    def wait(self) -> Delivery | PublishResult:
        """The reply, or how the request failed; raises MessagingTimeout when the call or its monitor runs out."""
        self._alive_at = time.monotonic()
        while True:
            left = self._left()
            try:
                return self._events.get(timeout=left)
            except Empty:
                LOG.debug("call %s: looking at the clock", self.correlation_id)

    def _left(self) -> float | None:
        now = time.monotonic()
        left = None if self._deadline is None else self._deadline - now
        if left is not None and left <= 0:
            raise oslo_messaging.MessagingTimeout(f"no reply to call {self.correlation_id} in time")
        if self._monitor is not None:
            silent = self._alive_at + self._monitor - now
            if silent <= 0:
                raise oslo_messaging.MessagingTimeout(
                    f"no heartbeat for call {self.correlation_id} within {self._monitor} s: its server has gone"
                )
            left = silent if left is None else min(left, silent)
        return left


class Waiters:
    """The calls of one process on one transport, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = itertools.count(1)
        self._waiters: dict[str | None, Waiter] = {}

    def open(self, deadline: float | None, monitor: float | None) -> Waiter:
        """A new call; raises MessageDeliveryFailure while too many wait."""
        if len(self._waiters) >= self._limit:
            raise oslo_messaging.MessageDeliveryFailure(
                f"{self._limit} calls of this transport wait for replies already (option max_calls)"
            )
        # Who answered one call knows the reply queue; it must not be able to guess another call's id and answer that.
        waiter = Waiter(f"{next(self._numbers):x}.{secrets.token_hex(8)}", deadline, monitor)
        self._waiters[waiter.correlation_id] = waiter
        return waiter

    def close(self, waiter: Waiter) -> None:
        """Nobody waits for this call any more; a late reply to it is dropped."""
        self._waiters.pop(waiter.correlation_id, None)

    def listen(self, link: Link, queue: str, timeout: float) -> None:
        """Consume the reply queue on this link."""
        link.subscribe([Consumption(queue, no_ack=True)], 0, self._on_delivery, timeout=timeout)

    def _on_delivery(self, delivery: Delivery) -> None:
        waiter = self._waiters.get(delivery.correlation_id)
        if waiter is None:
            LOG.debug("a reply to call %s came when nobody waited any more", delivery.correlation_id)
            return
        waiter.arrived(delivery)

    def __len__(self) -> int:
        """Calls in flight."""
        return len(self._waiters)
