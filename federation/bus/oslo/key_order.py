"""Messages of one ordering key, one after the other, within one server process.

The broker hands a partition to one consumer at a time and in order; oslo.messaging's executor would then run its messages
side by side in up to 64 threads.  Here the next message of a key is handed over only after the one before was settled.
No I/O, no threads of its own; any thread may call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Message = TypeVar("Message")


class KeyOrder(Generic[Message]):
    """Keeps per key the message that runs and those that wait behind it.

    ``hand_over`` gets each message when its turn has come, without a lock held.  What waits is limited by the broker,
    which sends no more than the prefetch of each queue.
    """

    def __init__(self, hand_over: Callable[[Message], None]) -> None:
        self._hand_over = hand_over
        self._lock = threading.Lock()
        self._lines: dict[str, deque[Message]] = {}
        self._stopped = False

    def arrive(self, key: str, message: Message) -> bool:
        """A message came from the broker: run it now (True), or after those of its key that came before."""
        with self._lock:
            if self._stopped:
                return False
            line = self._lines.get(key)
            if line is not None:
                line.append(message)
                return False
            self._lines[key] = deque([message])
        self._hand_over(message)
        return True

    def settled(self, key: str) -> None:
        """The running message of this key is settled: its successor's turn has come."""
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                return
            line.popleft()
            if not line or self._stopped:
                del self._lines[key]
                return
            message = line[0]
        self._hand_over(message)

    def blocking(self) -> list[Message]:
        """The running messages that others wait for."""
        with self._lock:
            return [line[0] for line in self._lines.values() if len(line) > 1]

    def drop_waiting(self, unwanted: Callable[[Message], bool]) -> None:
        """The broker took these back: drop those that have not begun (they come again); running keys stay busy."""
        with self._lock:
            for key, (runs, *waiting) in self._lines.items():
                self._lines[key] = deque([runs, *(message for message in waiting if not unwanted(message))])

    def stop(self) -> None:
        """Hand over nothing more; what runs may still be settled."""
        with self._lock:
            self._stopped = True
            for key, line in self._lines.items():
                self._lines[key] = deque([line[0]])

    def __len__(self) -> int:
        """How many messages run or wait."""
        with self._lock:
            return sum(map(len, self._lines.values()))
