"""Answers to questions: from a manager to one worker's own queue.  They may be lost; the worker asks again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from federation.bus.envelope_codec import decode_answer, encode_answer
from federation.bus.errors import BadMessage, BodyTooLarge
from federation.bus.link import Consumption, Delivery, Link, Subscription
from federation.bus.topology import answers_exchange, answers_items, answers_queue
from federation.protocol.envelope import Answer

LOG = logging.getLogger(__name__)


class AnswerSender:
    """A manager's way to the workers."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def answer(self, cluster: str, worker_id: str, answer: Answer) -> None:
        """Send to a cluster that was declared; raises BusOverloaded, BodyTooLarge, CannotEncode or LinkClosed."""
        self._link.publish(encode_answer(cluster, worker_id, answer))


class AnswerReceiver:
    """A worker's own queue of answers: exclusive, gone with its connection, and declared again with the next.

    ``on_answer`` is called on the link's thread and must return at once.  ``confined``: a manager has declared the
    exchange, this worker's user may not.
    """

    def __init__(
        self, link: Link, cluster: str, worker_id: str, on_answer: Callable[[Answer], None], *, confined: bool = False
    ) -> None:
        self._link = link
        self._items = [*([] if confined else [answers_exchange(cluster)]), *answers_items(cluster, worker_id)]
        self._queue = answers_queue(cluster, worker_id)
        self._on_answer = on_answer
        self._subscription: Subscription | None = None

    def start(self, timeout: float = 30.0) -> None:
        """Declare the queue and consume it; raises BrokerRefused when that is forbidden or the id is in use."""
        self._link.declare(self._items, timeout)
        wish = Consumption(self._queue, no_ack=True)
        self._subscription = self._link.subscribe([wish], 0, self._deliver, self._lost, timeout)

    def close(self, timeout: float) -> None:
        """Stop consuming; the queue goes with its last consumer."""
        self._link.forget(self._items)
        if self._subscription is not None:
            self._subscription.close(timeout)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            answer = decode_answer(delivery)
        except (BadMessage, BodyTooLarge) as error:
            LOG.warning("an answer in %s is dropped: %s", self._queue, error)
            return
        self._on_answer(answer)

    def _lost(self, reason: str, queue: str | None) -> None:
        del queue
        LOG.info("answers in %s may be lost, the worker asks again: %s", self._queue, reason)
