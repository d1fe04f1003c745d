"""Waiting for the answer of a call to a host, with somebody who watches a long change and may give it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from federation.contract.errors import OperationError

Answer = TypeVar("Answer")

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Watch:
    """What is done while a long change lasts.

    ``tell`` is called again and again; an error that it raises ends the operation.  Then ``give_up`` is called again and
    again, until the change has come to its end or ``give_up`` returns true: the host may not have begun the change yet
    when it is first asked to stop it.
    """

    tell: Callable[[], None]
    give_up: Callable[[], bool]


def answer_of(future: Future[Answer], limit: float, watch: Watch | None) -> Answer:
    """The answer of a call under way; raises what it raised, what its watch raised, TimeoutError after ``limit`` seconds."""
    if watch is None:
        return future.result(limit)
    end = time.monotonic() + limit
    while _goes_on(future, end):
        try:
            watch.tell()
        except OperationError:
            _give_up(future, end, watch)
            raise
        _settle(future, min(_POLL_SECONDS, max(end - time.monotonic(), 0.0)))
    return future.result(0)


def _give_up(future: Future[Any], end: float, watch: Watch) -> None:
    while _goes_on(future, end) and not watch.give_up():
        _settle(future, _POLL_SECONDS)


def _goes_on(future: Future[Any], end: float) -> bool:
    """Whether the answer has not come yet; raises TimeoutError when it is too late for it."""
    if future.done():
        return False
    if time.monotonic() >= end:
        raise TimeoutError
    return True


def _settle(future: Future[Any], seconds: float) -> None:
    """Wait for a future to be done, without taking its answer."""
    try:
        future.exception(seconds)
    except TimeoutError:
        return
