"""What the REST API refuses because there is too much of it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from federation.api.pool import Pool
from federation.api.watching import Watching
from federation.contract.errors import Overloaded


def test_a_pool_refuses_what_is_beyond_its_threads_and_its_queue():
    async def scenario():
        gate, pool = threading.Event(), Pool("test", threads=1, waiting=1)
        under_way = [asyncio.create_task(pool.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await pool.run(gate.wait)
        gate.set()
        assert await asyncio.gather(*under_way) == [True, True]
        assert await pool.run(lambda: "again") == "again"
        pool.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_watchers_share_one_read_and_hear_each_change_once():
    async def scenario():
        looks, looked, records = [], asyncio.Event(), {"a": {"id": "a", "state": "queued"}}

        async def look(ids):
            looks.append(ids)
            looked.set()
            return list(records.values())

        async def watch():
            first = {"id": "a", "state": "queued"}
            return [each["state"] async for each in watching.follow("a", first, 5, 5)]

        watching = Watching(look, interval=0.02)
        await watching.start()
        watchers = [asyncio.create_task(watch()) for _ in range(50)]
        for state in ("running", "succeeded"):
            for _ in range(2):
                looked.clear()
                await looked.wait()
            records["a"] = {"id": "a", "state": state}
        assert await asyncio.gather(*watchers) == [["queued", "running", "succeeded"]] * 50
        assert all(ids == ["a"] for ids in looks)
        assert len(looks) < 50
        await watching.stop()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_more_streams_than_allowed_are_refused_and_a_closed_one_makes_room():
    async def scenario():
        async def look(ids):
            return []

        watching = Watching(look, limit=1)
        first = {"id": "a", "state": "queued"}
        stream = watching.follow("a", first, 5, 5)
        assert await anext(stream) == first
        with pytest.raises(Overloaded):
            watching.follow("b", first, 5, 5)
        await stream.aclose()
        assert await anext(watching.follow("b", first, 5, 5)) == first

    asyncio.run(asyncio.wait_for(scenario(), 10))
