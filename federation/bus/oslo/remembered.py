"""Which messages this process has already run, so that a second copy of one is dropped."""

from __future__ import annotations

import threading


class Remembered:
    """The newest message ids, up to ``limit``; the oldest is forgotten first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}

    def __contains__(self, message_id: str | None) -> bool:
        """Whether this id was added and not yet forgotten; a message without an id is never remembered."""
        return message_id in self._ids

    def add(self, message_id: str | None) -> bool:
        """Remember; False when it was remembered before."""
        if message_id is None:
            return True
        with self._lock:
            if message_id in self._ids:
                return False
            self._ids[message_id] = None
            if len(self._ids) > self._limit:
                del self._ids[next(iter(self._ids))]
            return True
