"""Writers of this process take turns on SQLite, first come, first served.

A connection pool of one lets a thread that writes in a loop take the connection again before the thread that waits for
it has woken up; under load the waiting thread starves.  Here a turn is handed over, not let go.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from federation.protocol.errors import StoreUnavailable


class Turns:
    """One holder at a time, in the order of asking; ``patience`` bounds the wait, in seconds."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._held = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn and hold it; StoreUnavailable when it does not come in time."""
        self._take()
        try:
            yield
        finally:
            self._hand_over()

    def _take(self) -> None:
        with self._lock:
            if not self._held:
                self._held = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(self._patience):
            return
        with self._lock:
            if mine not in self._waiting:  # it was handed over in this very moment
                return
            self._waiting.remove(mine)
        raise StoreUnavailable(
            f"other writers of this process kept the database for {self._patience:g} s; try again later"
        )

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False
