"""Work for a little later: retries of replies and requeued notifications, on one thread of a listening process."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

LOG = logging.getLogger(__name__)

_Entry = tuple[float, int, Callable[[], None]]


class Later:
    """Runs callables after a delay.

    ``after`` takes no lock, so it may be called from a finaliser; it refuses, with False, above ``limit`` entries.
    """

    def __init__(self, name: str, limit: int = 10_000) -> None:
        self._limit = limit
        self._inbox: SimpleQueue[_Entry | None] = SimpleQueue()
        self._heap: list[_Entry] = []
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def after(self, seconds: float, work: Callable[[], None]) -> bool:
        """Run ``work`` on this thread after so many seconds, or say False when too much waits already."""
        if self._inbox.qsize() + len(self._heap) >= self._limit:
            return False
        self._inbox.put((time.monotonic() + seconds, next(self._numbers), work))
        return True

    def close(self) -> None:
        """Forget what waits and end the thread."""
        self._inbox.put(None)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while True:
            pause = None if not self._heap else max(0.0, self._heap[0][0] - time.monotonic())
            try:
                entry = self._inbox.get(timeout=pause)
            except Empty:
                _, _, work = heapq.heappop(self._heap)
                self._do(work)
                continue
            if entry is None:
                return
            heapq.heappush(self._heap, entry)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            LOG.exception("delayed work of the transport failed")
