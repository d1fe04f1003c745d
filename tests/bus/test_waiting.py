"""The I/O thread's sleep and its ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from federation.bus.amqp.waiting import Waiter

_LONG = 20.0


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    waiter = Waiter()
    yield waiter
    waiter.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _seconds_asleep(waiter: Waiter, seconds: float) -> float:
    began = time.monotonic()
    waiter.sleep(seconds)
    return time.monotonic() - began


def test_every_wake_up_ends_one_sleep_though_nobody_reads_it(waiter: Waiter) -> None:
    for _ in range(100):
        waiter.announce()
        waiter.wake()
        assert _seconds_asleep(waiter, _LONG) < _LONG / 2
    waiter.announce()
    assert _seconds_asleep(waiter, 0.05) >= 0.04, "a wake-up ended more than one sleep"


def test_another_thread_ends_the_sleep(waiter: Waiter) -> None:
    waiter.announce()
    waker = threading.Timer(0.05, waiter.wake)
    waker.start()
    assert _seconds_asleep(waiter, _LONG) < _LONG / 2
    waker.join()


def test_nobody_pays_for_waking_who_is_awake(waiter: Waiter) -> None:
    waiter.wake()
    waiter.announce()
    assert _seconds_asleep(waiter, 0.05) >= 0.04


def test_the_sleep_tells_whether_there_is_something_to_read(
    waiter: Waiter, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    waiter.watch(ours, for_writing=False)
    waiter.announce()
    waiter.wake()
    assert not waiter.sleep(_LONG)
    theirs.send(b"x")
    assert waiter.sleep(_LONG)
    assert waiter.sleep(_LONG), "what was not read is told again"
    ours.recv(10)
    waiter.watch(ours, for_writing=True)
    assert not waiter.sleep(_LONG), "it can be written, there is nothing to read"
    theirs.close()
    assert waiter.sleep(_LONG), "its end is read as well"


def test_a_new_connection_is_watched_after_the_old_one_was_closed(waiter: Waiter) -> None:
    for _ in range(2):
        ours, theirs = socket.socketpair()
        with theirs:
            waiter.watch(ours, for_writing=False)
            theirs.send(b"x")
            assert waiter.sleep(_LONG)
            ours.close()
            waiter.unwatch()


def test_a_wake_up_after_the_end_harms_nobody() -> None:
    waiter = Waiter()
    waiter.announce()
    waiter.close()
    waiter.wake()
