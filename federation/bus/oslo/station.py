"""What one process holds of one transport: two links, opened when needed, and the calls that wait for replies.

Requests go out on one link and replies to them come in on it; listeners receive and answer on the other, so that a broker
that stops reading from busy senders does not stop the servers.  A forked child makes its own.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import uuid
from pathlib import PurePath

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from federation.bus.address import Address
from federation.bus.link import Exchange, Link
from federation.bus.oslo.errors import CannotListen, NotSent, TransportError
from federation.bus.oslo.later import Later
from federation.bus.oslo.options import DriverOptions
from federation.bus.oslo.routes import Sources
from federation.bus.oslo.sending import Sender
from federation.bus.oslo.shared_link import SharedLink
from federation.bus.oslo.waiters import Waiters

_REPLIES = "replies"


class Station:
    """One process on one transport; ``owner`` is unique to it."""

    def __init__(self, address: Address, options: DriverOptions) -> None:
        self.process = os.getpid()
        self.owner = uuid.uuid4().hex
        program = f"{PurePath(sys.argv[0]).name or 'python'}:{self.process}"
        self._patience = options.connect_timeout_total
        self._sources = Sources(options)
        self._listening = SharedLink(address, f"{program} listens")
        self._message_numbers = itertools.count(1)
        self._later: Later | None = None
        self._lock = threading.Lock()
        self._replies = self._sources.replies(self.owner)
        self.sending = SharedLink(address, f"{program} sends")
        self.sender = Sender(self.sending)
        self.waiters = Waiters(options.max_calls)

    def message_id(self) -> str:
        """A new id, unique among all messages of all processes."""
        return f"{self.owner}:{next(self._message_numbers):x}"

    def prepare_exchange(self, link: Link, name: str, deadline: float) -> None:
        """Declare, once and by the deadline (monotonic seconds), the exchange that a request goes to."""
        items = self._sources.exchanges_to_declare
        self.sending.prepare(name, lambda left: link.declare(items(Exchange(name, "direct")), left), deadline)

    def reply_queue(self, link: Link, deadline: float, exchange: str) -> str:
        """The queue where this process awaits replies to calls by an exchange; declared and consumed at the first call."""
        self.sending.prepare(_REPLIES, lambda left: self._await_replies(link, left), deadline)
        way = self._sources.replies_from(exchange, self._replies.queue)
        items = self._sources.to_declare(way)
        self.sending.prepare((_REPLIES, exchange), lambda left: link.declare(items, left), deadline)
        return self._replies.queue

    def _await_replies(self, link: Link, seconds: float) -> None:
        link.declare(self._sources.to_declare(self._replies), seconds)
        self.waiters.listen(link, self._replies.queue, seconds)

    def listening_link(self) -> Link:
        """The listeners' link, connected; waits for a broker, then raises CannotListen."""
        retrying = Retrying(
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.1, max=5.0),
            retry=retry_if_exception_type(NotSent),
            sleep=self._listening.pause,
            reraise=True,
        )
        try:
            return retrying(lambda: self._listening.ready(time.monotonic() + self._patience))
        except (NotSent, TransportError) as error:
            raise CannotListen(str(error)) from error

    def later(self) -> Later:
        """The delayed-work thread of a process that listens."""
        with self._lock:
            if self._later is None:
                self._later = Later("federation delayed work")
            return self._later

    def close(self) -> None:
        """Send what waits, disconnect, end the threads."""
        self._listening.close()
        self.sending.close()
        if self._later is not None:
            self._later.close()
