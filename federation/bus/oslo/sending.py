"""Sending: pipelined with the broker's confirm, retried as the caller asked, never twice without the caller's leave.

A message is sent again by itself only when it certainly was not delivered (no connection, a nack, a full outgoing queue).
When the connection is lost between sending and confirm, nobody knows; then

* an RPC call goes on waiting for its reply, which comes if the request had arrived,
* an RPC cast raises MessageDeliveryFailure, which says so,
* what asked for at-least-once (notifications, ``TransportOptions(at_least_once=True)``) is sent again under the same
  message id, and a listener that has seen the id drops the copy.  Ordered messages never are: a late original could
  overtake.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

import msgspec
import oslo_messaging
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from federation.bus.link import Delivery, Link, Publication, PublishResult
from federation.bus.oslo.errors import NotSent
from federation.bus.oslo.shared_link import SharedLink, translated
from federation.bus.oslo.waiters import Waiter

LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_UNLIMITED = -1
_TELL_EVERY = 10

Result = TypeVar("Result")
Make = Callable[[Link, float], Publication]


class Effort(msgspec.Struct, frozen=True):
    """How hard to try.

    ``retry`` as oslo.messaging means it: how many attempts after the first, None or -1 for no limit.  ``deadline`` is in
    monotonic seconds.  ``resend_lost`` allows another copy of a message whose fate is unknown.  ``on_returned`` puts right
    what made the broker return a message, which is then sent again; without it that is MessageUndeliverable.
    """

    retry: int | None
    deadline: float | None
    connect_seconds: float
    resend_lost: bool = False
    on_returned: Callable[[], None] | None = None

    def left(self) -> float | None:
        """Seconds until the deadline; raises MessagingTimeout when it has passed."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise oslo_messaging.MessagingTimeout("the message could not be sent in time")
        return left

    def connect_deadline(self) -> float:
        """Until when one attempt may try to connect."""
        latest = time.monotonic() + self.connect_seconds
        return latest if self.deadline is None else min(latest, self.deadline)


class Sender:
    """Sends through one shared link."""

    def __init__(self, line: SharedLink) -> None:
        self._line = line

    def cast(self, make: Make, effort: Effort) -> None:
        """Send and wait for the broker's confirm.

        ``make`` prepares the link by a deadline and gives the publication, once per attempt.  Raises MessageUndeliverable,
        MessageDeliveryFailure, MessagingTimeout, TransportError.
        """
        self._persist(lambda: self._cast_once(make, effort), effort)

    def call(self, make: Make, waiter: Waiter, effort: Effort) -> Delivery:
        """Send and wait for the reply; the confirm is awaited at the same time, not before.

        Raises what :meth:`cast` raises; MessagingTimeout when no reply came.
        """
        return self._persist(lambda: self._call_once(make, waiter, effort), effort)

    def _cast_once(self, make: Make, effort: Effort) -> None:
        settled: SimpleQueue[PublishResult] = SimpleQueue()
        publication = self._publish(make, settled.put, effort)
        try:
            result = settled.get(timeout=effort.left())
        except Empty as error:
            raise oslo_messaging.MessagingTimeout("the broker did not confirm the message in time") from error
        if result is PublishResult.CONFIRMED:
            return
        self._explain(result, publication, effort)
        raise oslo_messaging.MessageDeliveryFailure(
            "the connection was lost before the broker confirmed: the message may or may not have been delivered"
        )

    def _call_once(self, make: Make, waiter: Waiter, effort: Effort) -> Delivery:
        publication = self._publish(make, waiter.settled, effort)
        while True:
            event = waiter.wait()
            if isinstance(event, Delivery):
                return event
            self._explain(event, publication, effort)
            LOG.warning("call %s: connection lost before its confirm; waiting on for a reply", waiter.correlation_id)

    def _publish(self, make: Make, on_settled: Callable[[PublishResult], None], effort: Effort) -> Publication:
        deadline = effort.connect_deadline()
        link = self._line.ready(deadline)
        publication = make(link, deadline)
        translated(lambda: link.publish(publication, on_settled))
        return publication

    def _explain(self, result: PublishResult, publication: Publication, effort: Effort) -> None:
        """Raise for what became of a publication, or return when nobody knows and the caller must decide."""
        where = f"{publication.exchange} {publication.routing_key}"
        if result is PublishResult.NACKED:
            raise NotSent(f"the broker refused the message to {where}: the queue is full or unavailable")
        if result is PublishResult.RETURNED and effort.on_returned is not None:
            effort.on_returned()
            raise NotSent(f"no queue is bound to {where}")
        if result is PublishResult.RETURNED:
            raise oslo_messaging.MessageUndeliverable(
                "no queue is bound there", publication.exchange, publication.routing_key, publication.message_id
            )
        if effort.resend_lost:
            raise NotSent(f"the connection was lost before the broker confirmed the message to {where}")

    def _persist(self, once: Callable[[], Result], effort: Effort) -> Result:
        try:
            return once()
        except NotSent as error:
            if effort.retry == 0:
                raise oslo_messaging.MessageDeliveryFailure(str(error)) from error
            LOG.warning("%s; trying again", error)
        retrying = Retrying(
            stop=lambda state: self._exhausted(state, effort),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
            retry=retry_if_exception_type(NotSent),
            sleep=lambda seconds: self._pause(seconds, effort),
            before_sleep=_tell_now_and_then,
            reraise=True,
        )
        self._pause(_FIRST_PAUSE, effort)
        try:
            return retrying(once)
        except NotSent as error:
            raise oslo_messaging.MessageDeliveryFailure(str(error)) from error

    def _exhausted(self, state: RetryCallState, effort: Effort) -> bool:
        if effort.retry is None or effort.retry == _UNLIMITED:
            return False
        return state.attempt_number >= effort.retry

    def _pause(self, seconds: float, effort: Effort) -> None:
        left = effort.left()
        self._line.pause(seconds if left is None else min(seconds, left))


def _tell_now_and_then(state: RetryCallState) -> None:
    if state.attempt_number % _TELL_EVERY == 0 and state.outcome is not None:
        LOG.warning("still trying after %d attempts: %s", state.attempt_number, state.outcome.exception())
