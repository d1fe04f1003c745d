"""One link of one process, opened when it is first needed and shared by all that send, or all that listen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

from federation.bus.address import Address
from federation.bus.connect import open_link
from federation.bus.errors import BusError, BusOverloaded, BusTimeout, BusUnavailable, LinkClosed
from federation.bus.link import Link, Subscription
from federation.bus.oslo.errors import CannotListen, NotSent, TransportError

LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 5.0
_LEAST_SECONDS = 0.1


class SharedLink:
    """A link, what was declared on it, and a way to wait for its return."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._name = name
        self._opening = threading.Lock()
        self._link: Link | None = None
        self._prepared: set[Hashable] = set()
        self._back = threading.Condition()
        self._closed = False

    def ready(self, deadline: float) -> Link:
        """The link, connected at this moment, opened at the first call and by the deadline (monotonic seconds).

        Raises NotSent while there is no connection, TransportError when there can be none.
        """
        link = self._link
        if link is None:
            link = self._open(deadline)
        if not link.connected:
            raise NotSent(f"there is no connection to {self._address}")
        return link

    def prepare(self, key: Hashable, declare: Callable[[float], None], deadline: float) -> None:
        """Declare what a message needs, once; ``key`` names it, ``declare`` gets the seconds it may take.

        Raises NotSent, also when others prepare until the deadline; TransportError.
        """
        if key in self._prepared:
            return
        self._take_turn(deadline)
        try:
            if key not in self._prepared:
                translated(lambda: declare(max(_LEAST_SECONDS, deadline - time.monotonic())))
                self._prepared.add(key)
        finally:
            self._opening.release()

    def unprepare(self, key: Hashable) -> None:
        """What was declared has gone from the broker; declare it again next time."""
        self._prepared.discard(key)

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the connection is back, whichever is first."""
        link = self._link
        was_connected = link is not None and link.connected
        with self._back:
            self._back.wait_for(
                lambda: self._closed or (not was_connected and self._link is not None and self._link.connected),
                timeout=max(0.0, seconds),
            )

    def close(self) -> None:
        """Send what waits and disconnect; whoever waits for the link gets TransportError."""
        with self._back:
            self._closed = True
            self._back.notify_all()
        with self._opening:
            link, self._link = self._link, None
        if link is not None:
            link.close(_CLOSE_SECONDS)

    def _open(self, deadline: float) -> Link:
        self._take_turn(deadline)
        try:
            if self._closed:
                raise TransportError("the transport was cleaned up")
            if self._link is None:
                self._link = self._start(max(_LEAST_SECONDS, deadline - time.monotonic()))
            return self._link
        finally:
            self._opening.release()

    def _take_turn(self, deadline: float) -> None:
        if not self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise NotSent(f"connecting to {self._address} takes too long")

    def _start(self, timeout: float) -> Link:
        link = open_link(self._address, self._name)
        try:
            translated(lambda: link.start(timeout))
        except (NotSent, TransportError):
            link.close(_CLOSE_SECONDS)
            raise
        link.on_reconnect(self._on_reconnect)
        return link

    def _on_reconnect(self) -> None:
        with self._back:
            self._back.notify_all()


def translated(work: Callable[[], None]) -> None:
    """Do something with a link, with its errors turned into NotSent (try again) and TransportError (do not)."""
    try:
        work()
    except LinkClosed as error:
        raise TransportError("the transport was cleaned up") from error
    except (BusUnavailable, BusTimeout, BusOverloaded) as error:
        raise NotSent(str(error)) from error
    except BusError as error:
        raise TransportError(str(error)) from error


def demanded(work: Callable[[], None]) -> None:
    """Do something with a link that a listener cannot do without; every error is CannotListen."""
    try:
        work()
    except BusError as error:
        raise CannotListen(str(error)) from error


def reported(link: Link, work: Callable[[], None], what: str) -> None:
    """Do something with a link while leaving it, unless its connection has gone and did it already.

    An error is logged, since the broker clears up after us anyway.
    """
    if not link.connected:
        return
    try:
        work()
    except BusError as error:
        LOG.warning("%s: %s", what, error)


def end_subscription(link: Link, subscription: Subscription) -> None:
    """Close a subscription, also where no connection stands; the broker takes back what was not settled."""
    seconds = _CLOSE_SECONDS if link.connected else _LEAST_SECONDS
    try:
        subscription.close(seconds)
    except BusError as error:
        LOG.warning("a listener's channel was not closed: %s", error)
