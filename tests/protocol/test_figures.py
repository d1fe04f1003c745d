"""The scaling signal: what the present workers would need for what waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.protocol.figures import ASSUMED_SECONDS, backlog_seconds, seconds_each

SECONDS = st.floats(0.001, 1000)
COUNTS = st.integers(1, 10_000)


@given(COUNTS, SECONDS, COUNTS)
def test_while_every_slot_is_taken_the_signal_is_waiting_work_over_the_rate_of_finishing(waiting, each, slots):
    rate = slots / each
    assert backlog_seconds(waiting, each, slots) == pytest.approx(waiting / rate)


@given(COUNTS, SECONDS, COUNTS)
def test_twice_the_workers_halve_it(waiting, each, slots):
    assert backlog_seconds(waiting, each, 2 * slots) == pytest.approx(backlog_seconds(waiting, each, slots) / 2)


@given(SECONDS, st.integers(0, 100))
def test_where_nothing_waits_it_is_nothing_also_without_a_worker(each, slots):
    assert backlog_seconds(0, each, slots) == 0.0


@given(COUNTS, SECONDS)
def test_where_work_waits_for_no_worker_there_is_no_number(waiting, each):
    assert backlog_seconds(waiting, each, 0) is None


def test_seconds_each_are_those_that_finished_last_unless_what_runs_is_older():
    assert seconds_each([1.0, 3.0], []) == 2.0
    assert seconds_each([1.0, 3.0], [(4, 1.0)]) == 2.0
    assert seconds_each([1.0, 3.0], [(1, 10.0), (1, 20.0)]) == 15.0
    assert seconds_each([1.0, 3.0], [(3, 10.0), (1, 50.0)]) == 20.0, "each running one counts once"
    assert seconds_each([], []) == ASSUMED_SECONDS
    assert seconds_each([], [(2, 0.1)]) == ASSUMED_SECONDS
    assert seconds_each([], [(2, 30.0)]) == 30.0
    assert seconds_each([0.5], [(2, -3.0)]) == 0.5, "the clocks of two managers may differ"
