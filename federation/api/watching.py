"""Following operations: all who watch share one read of the store in each interval, however many they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from federation.contract.errors import OperationError, Overloaded

log = logging.getLogger(__name__)

Record = dict[str, Any]
Look = Callable[[list[str]], Awaitable[list[Record]]]

_SETTLED = frozenset({"succeeded", "failed", "refused", "unknown"})


class Watching:
    """Reads what is watched every ``interval`` seconds and tells each watcher what changed.  Used from one event loop."""

    def __init__(self, look: Look, interval: float = 0.25, limit: int = 512) -> None:
        self._look = look
        self._interval = interval
        self._limit = limit
        self._watchers: dict[str, set[asyncio.Queue[Record | None]]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._read_on(), name="operations that are watched")

    async def stop(self) -> None:
        """End every stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
        for queues in self._watchers.values():
            for queue in queues:
                _tell(queue, None)

    def follow(self, operation: str, first: Record, seconds: float, silence: float) -> AsyncIterator[Record | None]:
        """The record now and after every change, to its outcome or for ``seconds``; None after ``silence`` seconds.

        Raises Overloaded at once where too many watch.
        """
        if self._count >= self._limit:
            message = f"{self._count} streams are open, the limit is {self._limit}"
            raise Overloaded(message, limit=self._limit)
        return self._stream(operation, first, seconds, silence)

    async def _stream(
        self, operation: str, first: Record, seconds: float, silence: float
    ) -> AsyncIterator[Record | None]:
        queue: asyncio.Queue[Record | None] = asyncio.Queue(maxsize=1)
        end = asyncio.get_running_loop().time() + seconds
        self._watchers.setdefault(operation, set()).add(queue)
        self._count += 1
        try:
            yield first
            seen = first
            while seen["state"] not in _SETTLED:
                left = end - asyncio.get_running_loop().time()
                if left <= 0:
                    return
                try:
                    record = await asyncio.wait_for(queue.get(), min(silence, left))
                except TimeoutError:
                    yield None
                    continue
                if record is None:
                    return
                if record != seen:
                    seen = record
                    yield record
        finally:
            self._count -= 1
            self._forget(operation, queue)

    def _forget(self, operation: str, queue: asyncio.Queue[Record | None]) -> None:
        queues = self._watchers[operation]
        queues.discard(queue)
        if not queues:
            del self._watchers[operation]

    async def _read_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if not self._watchers:
                continue
            try:
                records = await self._look(list(self._watchers))
            except OperationError as error:
                log.warning("operations that are watched could not be read, the next look comes: %s", error)
                continue
            for record in records:
                for queue in self._watchers.get(record["id"], ()):
                    _tell(queue, record)


def _tell(queue: asyncio.Queue[Record | None], record: Record | None) -> None:
    """Whoever is slow misses what lay between, never the newest."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(record)
