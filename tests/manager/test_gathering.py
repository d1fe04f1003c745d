"""Callers that come together: each gets its own reply, nobody is served twice, nobody is forgotten."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from federation.manager.gathering import Gathering
from federation.protocol.errors import StoreUnavailable


class Work:
    """Replies with twice the number; every group can be held up, or fail."""

    def __init__(self, *, held=False):
        self.groups: list[list[int]] = []
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.held = held
        self.fails: BaseException | None = None

    def __call__(self, wishes):
        self.groups.append(wishes)
        self.begun.release()
        if self.held:
            assert self.go_on.acquire(timeout=10)
        if self.fails is not None:
            raise self.fails
        return [ValueError(f"odd {wish}") if wish % 2 else wish * 2 for wish in wishes]


@pytest.fixture
def pool():
    with ThreadPoolExecutor(24) as threads:
        yield threads


def in_line(gathering, count):
    deadline = time.monotonic() + 10
    while len(gathering._line) < count:
        assert time.monotonic() < deadline, "they do not wait"
        time.sleep(0.001)


def gathered(work, pool, wishes, **options):
    """The first of the wishes is being worked for, the others wait in this order; their futures."""
    gathering = Gathering(work, **{"most": 100, "abreast": 1, "patience": 10.0, **options})
    futures = [pool.submit(gathering.ask, wishes[0])]
    assert work.begun.acquire(timeout=10)
    for number, wish in enumerate(wishes[1:], 1):
        futures.append(pool.submit(gathering.ask, wish))
        in_line(gathering, number)
    return gathering, futures


def test_who_comes_alone_is_served_alone_and_at_once():
    work = Work()
    gathering = Gathering(work, most=8, abreast=1, patience=10.0)
    assert [gathering.ask(2), gathering.ask(4)] == [4, 8]
    assert work.groups == [[2], [4]]


def test_who_comes_while_others_are_served_is_served_with_all_that_came(pool):
    work = Work(held=True)
    _, futures = gathered(work, pool, [2, 4, 6, 8])
    work.go_on.release(2)
    assert [future.result(10) for future in futures] == [4, 8, 12, 16]
    assert work.groups == [[2], [4, 6, 8]]


def test_a_group_has_a_limit_and_the_others_come_next_in_their_order(pool):
    work = Work(held=True)
    _, futures = gathered(work, pool, [2, 4, 6, 8, 10, 12], most=2)
    work.go_on.release(4)
    assert [future.result(10) for future in futures] == [4, 8, 12, 16, 20, 24]
    assert work.groups == [[2], [4, 6], [8, 10], [12]]


def test_what_goes_wrong_with_one_is_raised_to_that_one_only(pool):
    work = Work(held=True)
    _, futures = gathered(work, pool, [2, 4, 5, 6])
    work.go_on.release(2)
    assert [futures[n].result(10) for n in (0, 1, 3)] == [4, 8, 12]
    with pytest.raises(ValueError, match="odd 5"):
        futures[2].result(10)


@pytest.mark.parametrize(
    ("error", "raised"), [(StoreUnavailable("no disk"), StoreUnavailable), (KeyError("x"), RuntimeError)]
)
def test_what_goes_wrong_with_all_is_raised_to_each_as_an_exception_of_its_own(pool, error, raised):
    work = Work(held=True)
    gathering, futures = gathered(work, pool, [2, 4, 6])
    work.fails = error
    work.go_on.release(2)
    seen = [future.exception(10) for future in futures]
    assert [type(each) for each in seen] == [raised] * 3
    assert len({id(each) for each in seen}) == 3
    assert [each.__cause__ for each in seen] == [error] * 3
    work.fails, work.held = None, False
    assert gathering.ask(8) == 16


def test_who_waits_too_long_gives_up_and_is_not_served_any_more(pool):
    work = Work(held=True)
    _, futures = gathered(work, pool, [2, 4], patience=0.05)
    with pytest.raises(StoreUnavailable, match=r"not served within 0\.05 s"):
        futures[1].result(10)
    work.go_on.release(2)
    assert futures[0].result(10) == 4
    assert work.groups == [[2]]


def test_who_is_being_served_is_not_given_up(pool):
    """Nobody could say whether it was done."""
    work = Work(held=True)
    gathering, futures = gathered(work, pool, [2, 4, 6], patience=0.3)
    work.go_on.release()
    assert work.begun.acquire(timeout=10)
    time.sleep(0.5)
    assert gathering._line == []
    work.go_on.release()
    assert [future.result(10) for future in futures] == [4, 8, 12]


def test_a_thread_that_is_ended_in_the_middle_takes_nobody_with_it(pool):
    work = Work(held=True)
    gathering, futures = gathered(work, pool, [2, 4])
    work.fails = SystemExit()
    work.go_on.release()
    with pytest.raises(SystemExit):
        futures[0].result(10)
    work.fails, work.held = None, False
    work.go_on.release()
    assert futures[1].result(10) == 8
    assert gathering.ask(6) == 12


def test_a_group_that_is_held_up_does_not_hold_up_the_next(pool):
    work = Work(held=True)
    gathering, futures = gathered(work, pool, [2], abreast=2)
    work.held = False
    assert [gathering.ask(4), gathering.ask(6)] == [8, 12]
    assert not futures[0].done()
    work.go_on.release()
    assert futures[0].result(10) == 4


def test_no_more_groups_than_allowed_are_served_at_the_same_time(pool):
    work = Work(held=True)
    gathering = Gathering(work, most=100, abreast=2, patience=10.0)
    futures = [pool.submit(gathering.ask, wish) for wish in range(0, 20, 2)]
    in_line(gathering, 8)
    assert all(work.begun.acquire(timeout=10) for _ in range(2))
    assert [len(group) for group in work.groups] == [1, 1]
    work.go_on.release(4)
    assert [future.result(10) for future in futures] == [wish * 2 for wish in range(0, 20, 2)]
    assert sorted(wish for group in work.groups for wish in group) == list(range(0, 20, 2))
    assert 3 <= len(work.groups) <= 4


@pytest.mark.parametrize("abreast", [1, 3])
def test_under_load_everybody_gets_the_own_reply_and_is_served_once(pool, abreast):
    served = []

    def work(wishes):
        served.extend(wishes)
        time.sleep(0.001)
        return [wish * 2 for wish in wishes]

    gathering = Gathering(work, most=7, abreast=abreast, patience=30.0)

    def many(start):
        return [gathering.ask(wish) == wish * 2 for wish in range(start, start + 100)]

    assert all(all(each) for each in pool.map(many, range(0, 2400, 100)))
    assert sorted(served) == list(range(2400))
