"""A server's replies on their way back.

A reply goes out on the listener's own link.  When the caller's reply queue is away (its connection is being made again),
the broker returns the reply and it is tried again, for ``reply_patience`` seconds, without holding an executor thread.
"""

from __future__ import annotations

import logging
import random
import time
from functools import partial

from federation.bus.errors import BusError
from federation.bus.link import Link, Publication, PublishResult
from federation.bus.oslo.body import HEARTBEAT_HEADER
from federation.bus.oslo.later import Later

LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class ReplySender:
    """Sends replies and heartbeats to callers, by one exchange."""

    def __init__(self, link: Link, exchange: str, later: Later, patience: float) -> None:
        self._exchange = exchange
        self._link = link
        self._later = later
        self._patience = patience

    def reply(self, reply_to: str, correlation_id: str | None, body: bytes, *, more: bool = False) -> None:
        """Hand the reply to the link; what cannot be delivered in time is reported in the log.

        ``more``: the request is settled right after, and both may leave together.
        """
        publication = Publication(
            self._exchange, reply_to, body, correlation_id=correlation_id, persistent=False, mandatory=True
        )
        self._send(publication, time.monotonic() + self._patience, _FIRST_PAUSE, more=more)

    def heartbeat(self, reply_to: str, correlation_id: str | None) -> None:
        """Tell the caller of a monitored call that its server still works on it; may be lost."""
        headers = {HEARTBEAT_HEADER: True}
        publication = Publication(
            self._exchange, reply_to, b"", headers, correlation_id=correlation_id, persistent=False, mandatory=False
        )
        try:
            self._link.publish(publication)
        except BusError as error:
            LOG.warning("no heartbeat to %s: %s", reply_to, error)

    def _send(self, publication: Publication, deadline: float, pause: float, *, more: bool = False) -> None:
        try:
            self._link.publish(publication, partial(self._settled, publication, deadline, pause), more=more)
        except BusError as error:
            self._again(publication, deadline, pause, str(error))

    def _settled(self, publication: Publication, deadline: float, pause: float, result: PublishResult) -> None:
        if result is not PublishResult.CONFIRMED:
            self._again(publication, deadline, pause, result.value)

    def _again(self, publication: Publication, deadline: float, pause: float, reason: str) -> None:
        delay = pause * (0.5 + random.random())  # noqa: S311  # jitter, no secret
        again = partial(self._send, publication, deadline, min(2 * pause, _LONGEST_PAUSE))
        if time.monotonic() + delay > deadline or not self._later.after(delay, again):
            LOG.error(
                "the reply to call %s of %s is given up (%s): its caller has gone",
                publication.correlation_id,
                publication.routing_key,
                reason,
            )
