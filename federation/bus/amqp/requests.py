"""What other threads ask of the broker through the I/O thread: declares, subscriptions, deletions, reads.

Everything requested may be done twice: a request that a lost connection interrupts is done again on the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError

from federation.bus.amqp.wire import Limited, Wire
from federation.bus.errors import BusError, BusTimeout, LinkClosed

LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 1.0


@dataclass(slots=True)
class Request:
    """One piece of work on the connection, to be begun before the deadline (monotonic seconds)."""

    run: Callable[[Wire], Any]
    deadline: float
    future: Future[Any] = field(default_factory=Future)

    def wait(self) -> Any:
        """What ``run`` returned or raised; BusTimeout when the deadline has passed."""
        try:
            return self.future.result(max(0.0, self.deadline - monotonic()) + _GRACE_SECONDS)
        except FutureTimeoutError as error:
            self.future.cancel()
            raise BusTimeout("the broker did not answer in time") from error

    def report_failure(self) -> None:
        """Nobody will wait: a failure goes to the log."""
        self.future.add_done_callback(_report_failure)

    def perform(self, wire: Wire, limited: Limited) -> None:
        """Do it on the I/O thread; raises only what ends the connection, and then it is not done."""
        if not self.future.running() and not self.future.set_running_or_notify_cancel():
            return
        left = self.deadline - monotonic()
        if left <= 0:
            self._finish(error=BusTimeout("the broker did not answer in time"))
            return
        try:
            with limited(left):
                result = self.run(wire)
        except BusError as error:
            self._finish(error=error)
        except (AMQPError, OSError):
            raise
        except Exception as error:
            self._finish(error=error)
            raise
        else:
            self._finish(result)

    def give_up(self) -> None:
        """The link ends."""
        self._finish(error=LinkClosed("the link was closed"))

    def _finish(self, result: object = None, error: Exception | None = None) -> None:
        try:
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)
        except InvalidStateError:
            LOG.info("a request was given up before it was done")


class Requests:
    """The requests that wait; ``add`` from any thread, the rest on the I/O thread."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def __bool__(self) -> bool:
        """Whether something waits to be done."""
        return bool(self._waiting)

    def add(self, request: Request) -> None:
        """Queue one."""
        self._waiting.append(request)

    def perform_next(self, wire: Wire, limited: Limited) -> None:
        """Do the oldest; one that the connection's end interrupts stays first in the queue."""
        request = self._waiting.popleft()
        try:
            request.perform(wire, limited)
        except (AMQPError, OSError):
            self._waiting.appendleft(request)
            raise

    def give_up(self) -> None:
        """The link ends."""
        while self._waiting:
            self._waiting.popleft().give_up()


def _report_failure(future: Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        LOG.error("a request made from a callback failed: %s", error)
