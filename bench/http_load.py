"""HTTP clients in a process of their own, so that they do not share an interpreter with the manager that they ask.

``python http_load.py`` reads one task as JSON from standard input and writes its result as JSON: ``post`` sends bodies over
some connections as fast as they are taken, ``get`` reads paths, ``watch`` follows operations and cancels them.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_TIMEOUT = 60.0


class _Client:
    """A connection; several go to the managers in turn."""

    def __init__(self, task: dict[str, Any], number: int = 0) -> None:
        self._address = task["addresses"][number % len(task["addresses"])]
        self._headers = {"Authorization": f"Bearer {task['token']}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def follow(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, None, self._headers)
        return self._connection.getresponse()


def _side_by_side(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def post(task: dict[str, Any]) -> dict[str, Any]:
    """Each connection sends its share of the requests, one after another."""
    requests, count = task["requests"], task["connections"]
    taken: list[float] = []
    ids: list[str] = []
    bad: list[str] = []

    def work(number: int) -> None:
        client = _Client(task, number)
        for path, body in requests[number::count]:
            began = time.perf_counter()
            status, reply = client.ask("POST", path, body)
            taken.append(time.perf_counter() - began)
            if status == task["status"]:
                ids.append(json.loads(reply)["id"])
            else:
                bad.append(f"{status} {reply[:200].decode()}")

    began = time.time()
    _side_by_side(work, count)
    return {"began": began, "ended": time.time(), "taken": taken, "ids": ids, "bad": bad}


def get(task: dict[str, Any]) -> dict[str, Any]:
    """Each connection reads the paths in turn."""
    taken: list[float] = []
    bad: list[str] = []

    def work(number: int) -> None:
        client = _Client(task)
        for path in task["paths"][number :: task["connections"]]:
            began = time.perf_counter()
            status, reply = client.ask("GET", path)
            taken.append(time.perf_counter() - began)
            if status != 200:
                bad.append(f"{status} {reply[:200].decode()}")

    _side_by_side(work, task["connections"])
    return {"taken": taken, "bad": bad}


def watch(task: dict[str, Any]) -> dict[str, Any]:
    """All operations are followed at once; then each is cancelled, and its stream must tell of it and end."""
    told: dict[str, float] = {}
    cancelled: dict[str, float] = {}
    bad: list[str] = []
    ready = threading.Barrier(len(task["operations"]) + 1)

    def work(number: int) -> None:
        operation = task["operations"][number]
        stream = _Client(task).follow(f"/v1/operations/{operation}/events")
        _event(stream)  # how it is now
        ready.wait(_TIMEOUT)
        record = _event(stream)
        told[operation] = time.perf_counter()
        if record is None or record["state"] != "refused":
            bad.append(f"{operation}: {record}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(task["operations"]))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    ready.wait(_TIMEOUT)
    opened = time.perf_counter() - began
    client = _Client(task)
    for operation in task["operations"]:
        status, reply = client.ask("POST", f"/v1/operations/{operation}/cancel", "{}")
        cancelled[operation] = time.perf_counter()
        if status != 202:
            bad.append(f"{status} {reply[:200].decode()}")
    for thread in threads:
        thread.join(_TIMEOUT)
    late = [max(0.0, told[each] - cancelled[each]) for each in cancelled if each in told]
    return {"opened_seconds": opened, "late": late, "bad": bad}


def _event(stream: http.client.HTTPResponse) -> dict[str, Any] | None:
    for line in stream:
        if line.startswith(b"data: "):
            record: dict[str, Any] = json.loads(line[6:])
            return record
    return None


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump({"post": post, "get": get, "watch": watch}[given["task"]](given), sys.stdout)
