"""Dead letters: what no worker could settle comes back to the manager.

The callback runs on a thread of the consumer's own and may wait (for the store, say).  A letter that it does not
acknowledge is shown to it again, with growing pauses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Queue
from time import monotonic

from federation.bus.backoff import Backoff
from federation.bus.callbacks import call_back
from federation.bus.envelope_codec import read_facts
from federation.bus.errors import BadMessage
from federation.bus.link import Consumption, Delivery, Link
from federation.bus.settling import Settler
from federation.bus.topology import DEAD_QUEUE
from federation.protocol.envelope import Command

LOG = logging.getLogger(__name__)
_PREFETCH = 32
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(slots=True)
class DeadLetter:
    """One dead letter: of which command (None when the headers do not say), why and in which queue it died."""

    command: Command | None
    reason: str
    queue: str
    delivery: Delivery = field(repr=False)
    _settle: Callable[[Delivery], None] = field(repr=False)
    acked: bool = False

    def ack(self) -> None:
        """It is dealt with."""
        self.acked = True
        self._settle(self.delivery)


class DeadLetterConsumer:
    """Consumes the dead-letter queue; several managers share it."""

    def __init__(self, link: Link, on_dead: Callable[[DeadLetter], None]) -> None:
        self._link = link
        self._on_dead = on_dead
        self._settler = Settler()
        self._inbox: Queue[DeadLetter] = Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead letters", daemon=True)

    def start(self, timeout: float = 30.0) -> None:
        """Consume; raises BrokerRefused when the queue is missing or forbidden."""
        wish = Consumption(DEAD_QUEUE)
        self._settler.attach(self._link.subscribe([wish], _PREFETCH, self._deliver, self._lost, timeout))
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop; letters that are not acknowledged go back to the queue."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._settler.close(timeout)

    def _deliver(self, delivery: Delivery) -> None:
        self._inbox.put(read_dead_letter(delivery, self._settler.ack))

    def _lost(self, reason: str, queue: str | None) -> None:
        del queue
        LOG.info("dead letters come again: %s", reason)
        while True:
            try:
                self._inbox.get_nowait()
            except Empty:
                return

    def _run(self) -> None:
        backoff = Backoff(_LONGEST_PAUSE_SECONDS)
        again_at = 0.0
        while not self._closing.is_set():
            try:
                letter = self._inbox.get(timeout=1.0)
            except Empty:
                continue
            if again_at > monotonic() and self._closing.wait(again_at - monotonic()):
                return
            call_back(self._on_dead, letter)
            if letter.acked:
                backoff.reset()
                again_at = 0.0
            else:
                self._inbox.put(letter)
                again_at = monotonic() + backoff.next()


def read_dead_letter(delivery: Delivery, settle: Callable[[Delivery], None]) -> DeadLetter:
    """What a delivery of the dead-letter queue says of itself (``x-death``, https://www.rabbitmq.com/docs/dlx)."""
    try:
        command: Command | None = read_facts(delivery.headers)
    except BadMessage as error:
        LOG.debug("a dead letter tells of no command: %s", error)
        command = None
    reason = delivery.headers.get("x-last-death-reason") or delivery.headers.get("x-first-death-reason")
    queue = delivery.headers.get("x-last-death-queue") or delivery.headers.get("x-first-death-queue")
    deaths = delivery.headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        reason = reason or deaths[0].get("reason")
        queue = queue or deaths[0].get("queue")
    return DeadLetter(command, str(reason or "unknown"), str(queue or "unknown"), delivery, settle)
