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
    """Keeps per key what waits behind the message that runs.

    ``hand_over`` gets each message when its turn has come, without a lock held.  What waits is limited by the broker,
    which sends no more than the prefetch of each queue.
    """

    def __init__(self, hand_over: Callable[[Message], None]) -> None:
        self._hand_over = hand_over
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Message]] = {}
        self._stopped = False

    def arrive(self, key: str, message: Message) -> None:
        """A message came from the broker: run it now, or after those of its key that came before."""
        with self._lock:
            if self._stopped:
                return
            queue = self._waiting.get(key)
            if queue is not None:
                queue.append(message)
                return
            self._waiting[key] = deque()
        self._hand_over(message)

    def settled(self, key: str) -> None:
        """The running message of this key is settled: its successor's turn has come."""
        with self._lock:
            queue = self._waiting.get(key)
            if queue is None:
                return
            if not queue or self._stopped:
                del self._waiting[key]
                return
            message = queue.popleft()
        self._hand_over(message)

    def drop_waiting(self, unwanted: Callable[[Message], bool]) -> None:
        """The broker took these back: drop those that have not begun (they come again); running keys stay busy."""
        with self._lock:
            for key, queue in self._waiting.items():
                self._waiting[key] = deque(message for message in queue if not unwanted(message))

    def stop(self) -> None:
        """Hand over nothing more; what runs may still be settled."""
        with self._lock:
            self._stopped = True
            for queue in self._waiting.values():
                queue.clear()

    def __len__(self) -> int:
        """How many messages run or wait."""
        with self._lock:
            return sum(1 + len(queue) for queue in self._waiting.values())
