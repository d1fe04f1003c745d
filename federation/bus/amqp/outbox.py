"""Publications on their way: waiting to be sent, then waiting for the broker's answer.

:meth:`Outbox.put` may be called from any thread; everything else belongs to the I/O thread.  Every publication with a
callback is settled exactly once: it leaves ``_waiting`` or ``_unconfirmed`` before its callback is called.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic

from federation.bus.address import LinkOptions
from federation.bus.amqp.frames import encode_publication
from federation.bus.amqp.wire import PUBLISH_CHANNEL
from federation.bus.callbacks import call_back
from federation.bus.errors import BodyTooLarge, BusOverloaded
from federation.bus.link import Publication, PublishResult

LOG = logging.getLogger(__name__)
SMALLEST_FRAME_MAX = 4096
"""AMQP's own lower limit: frames of this size are legal on every connection."""
_BATCH_BYTES = 256 * 1024

OnSettled = Callable[[PublishResult], None]


class Outbox:
    """The bounded queue of one link's publications."""

    def __init__(self, user_id: str, options: LinkOptions) -> None:
        self._user_id = user_id
        self._limit = options.max_unsettled
        self._max_body_bytes = options.max_body_bytes
        self._confirm_timeout = options.confirm_timeout
        self._frame_max = SMALLEST_FRAME_MAX
        self._app_ids = count(1)
        self._waiting: deque[tuple[bytes, OnSettled | None, str | None, float]] = deque()
        self._unconfirmed: dict[int, tuple[OnSettled, str | None, float]] = {}
        self._returned: set[str] = set()
        self._next_tag = 1
        self._lowest_tag = 1

    def __len__(self) -> int:
        """How many wait to be sent or answered."""
        return len(self._waiting) + len(self._unconfirmed)

    @property
    def has_waiting(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._waiting)

    def put(self, publication: Publication, on_settled: OnSettled | None) -> None:
        """Queue one publication; raises BusOverloaded, BodyTooLarge or CannotEncode."""
        size = len(publication.body)
        if size > self._max_body_bytes:
            raise BodyTooLarge(size, self._max_body_bytes)
        if len(self._waiting) + len(self._unconfirmed) >= self._limit:
            msg = f"{self._limit} publications wait already"
            raise BusOverloaded(msg)
        app_id = str(next(self._app_ids)) if publication.mandatory and on_settled is not None else None
        frames = encode_publication(
            PUBLISH_CHANNEL, publication, user_id=self._user_id, app_id=app_id, frame_max=self._frame_max
        )
        self._waiting.append((frames, on_settled, app_id, monotonic()))

    def begin(self, frame_max: int) -> None:
        """A new publish channel stands: tags count from 1 again."""
        self._next_tag = self._lowest_tag = 1
        if frame_max < self._frame_max:
            LOG.warning("this broker takes smaller frames than the last; %d waiting are lost", len(self._waiting))
            self._lose_waiting()
        self._frame_max = frame_max

    def drain(self, out: bytearray) -> None:
        """Move waiting publications to the connection's buffer, up to one batch."""
        waiting = self._waiting
        unconfirmed = self._unconfirmed
        tag = self._next_tag
        while waiting and len(out) < _BATCH_BYTES:
            frames, on_settled, app_id, queued_at = waiting.popleft()
            out += frames
            if on_settled is not None:
                unconfirmed[tag] = (on_settled, app_id, queued_at)
            tag += 1
        self._next_tag = tag

    def returned(self, app_id: str | None) -> None:
        """The broker returned a publication as unroutable; its confirm follows."""
        if app_id is not None:
            self._returned.add(app_id)

    def confirm(self, tag: int, result: PublishResult, *, multiple: bool) -> None:
        """The broker answered one publication, or all up to it."""
        if not multiple:
            if tag == self._lowest_tag:
                self._lowest_tag = tag + 1
            self._settle(tag, result)
            return
        unanswered = range(self._lowest_tag, tag + 1)
        self._lowest_tag = max(self._lowest_tag, tag + 1)
        if len(unanswered) > len(self._unconfirmed):
            for each in [each for each in self._unconfirmed if each <= tag]:
                self._settle(each, result)
        else:
            for each in unanswered:
                self._settle(each, result)

    def _settle(self, tag: int, result: PublishResult) -> None:
        entry = self._unconfirmed.pop(tag, None)
        if entry is None:
            return
        on_settled, app_id, _ = entry
        if self._returned and app_id in self._returned:
            self._returned.discard(app_id)
            result = PublishResult.RETURNED
        call_back(on_settled, result)

    def lose_sent(self) -> None:
        """The channel went away: nobody will ever answer what was sent on it."""
        lost, self._unconfirmed = self._unconfirmed, {}
        self._returned.clear()
        for on_settled, _, _ in lost.values():
            call_back(on_settled, PublishResult.LOST)

    def lose_all(self) -> None:
        """The link ends."""
        self.lose_sent()
        self._lose_waiting()

    def _lose_waiting(self) -> None:
        while self._waiting:
            on_settled = self._waiting.popleft()[1]
            if on_settled is not None:
                call_back(on_settled, PublishResult.LOST)

    def expire(self, now: float) -> None:
        """Settle as lost what has waited longer than the confirm timeout, sent or not."""
        oldest = now - self._confirm_timeout
        while self._waiting and self._waiting[0][3] < oldest:
            on_settled = self._waiting.popleft()[1]
            if on_settled is not None:
                call_back(on_settled, PublishResult.LOST)
        late = []
        for tag, (_, _, queued_at) in self._unconfirmed.items():
            if queued_at >= oldest:
                break
            late.append(tag)
        if late:
            LOG.warning("%d publications unanswered after %g s count as lost", len(late), self._confirm_timeout)
        for tag in late:
            self._settle(tag, PublishResult.LOST)
