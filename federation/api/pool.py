"""Threads for what blocks: a bounded number of them, and a bounded number of requests that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from federation.contract.errors import Overloaded

_Result = TypeVar("_Result")


class Pool:
    """At most ``threads`` calls run and ``waiting`` more wait; what comes on top is refused.  Used from one event loop."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"api {name}")
        self._limit = threads + waiting
        self._taken = 0

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Run in a thread; raises Overloaded where too many wait."""
        if self._taken >= self._limit:
            message = f"{self._taken} requests ({self._name}) are under way, the limit is {self._limit}"
            raise Overloaded(message, limit=self._limit)
        self._taken += 1
        future = self._executor.submit(work)
        # Counted until the thread is done, also where the caller has gone away meanwhile.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: None if loop.is_closed() else loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._taken -= 1

    def close(self) -> None:
        """Begin nothing more; what runs is bounded by the use cases' own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
