from __future__ import annotations

import threading
import time

import pytest

from federation.protocol.errors import StoreUnavailable
from federation.store.turns import Turns


def until_waiting(turns, number):
    end = time.monotonic() + 10
    while len(turns._waiting) != number:
        assert time.monotonic() < end, f"{len(turns._waiting)} wait, expected {number}"
        time.sleep(0.001)


def test_writers_take_turns_in_the_order_in_which_they_asked():
    turns, order, threads = Turns(10.0), [], []

    def write(name):
        with turns.turn():
            order.append(name)

    with turns.turn():
        for name in range(5):
            threads.append(threading.Thread(target=write, args=(name,)))
            threads[-1].start()
            until_waiting(turns, name + 1)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_a_writer_whose_turn_does_not_come_gives_up_and_hinders_nobody():
    turns = Turns(0.05)
    with turns.turn():
        with pytest.raises(StoreUnavailable, match=r"0\.05 s"), turns.turn():
            pytest.fail("two had a turn at once")
        until_waiting(turns, 0)
    with turns.turn():
        pass


def test_a_turn_that_ends_by_an_exception_is_handed_over():
    turns = Turns(0.05)
    with pytest.raises(ZeroDivisionError), turns.turn():
        raise ZeroDivisionError
    with turns.turn():
        pass
