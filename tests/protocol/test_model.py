"""Every history of two operations of one key and two workers, over the real protocol, up to a number of faults."""

from __future__ import annotations

import pytest
from protocol.model.events import Rules
from protocol.model.explore import Bounds, Explored, explore
from protocol.model.faults import FAULTS
from protocol.model.parts import Parts, with_slow_clocks

EVERY_ROW = {0, 1, 2, 3, 4, 5, 6, 7, 8}
"""0 is the answer to a question that was answered before, and to a renewal."""


def assert_claims_hold(explored: Explored) -> None:
    assert explored.violation is None, str(explored)
    assert not explored.stuck, str(explored)


def test_the_claims_hold_on_every_history_with_one_fault() -> None:
    explored = explore(bounds=Bounds(faults=1))
    assert_claims_hold(explored)
    assert set(FAULTS) <= set(explored.seen), "a fault that leads nowhere new is not modelled"


def test_the_claims_hold_when_another_manager_than_the_publishing_one_handles_the_results() -> None:
    assert_claims_hold(explore(rules=Rules(elsewhere=True), bounds=Bounds(faults=1)))


def test_the_claims_hold_when_an_operator_resolves_a_parked_instance_and_tries_again() -> None:
    rules = Rules(resolve=True, retry=True)
    assert_claims_hold(explore(rules=rules, bounds=Bounds(faults=1, steps=(1, 1, 1))))


def test_messages_alone_lose_nothing_without_the_sweeper_when_only_connections_fail() -> None:
    rules = Rules(faults=frozenset({"connection lost"}))
    assert_claims_hold(explore(Parts(sweeper=False), rules, Bounds(faults=1)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_claims_hold_on_every_history_with_two_faults_of_any_kind() -> None:
    explored = explore(bounds=Bounds(faults=2))
    assert_claims_hold(explored)
    assert explored.rows == EVERY_ROW
    assert explored.states > 300_000, "so few states that something is no longer explored"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_margins_pay_for_a_worker_whose_clock_is_slow() -> None:
    rules = Rules(faults=frozenset({"flap", "results slow", "clock stands"}))
    assert_claims_hold(explore(with_slow_clocks(), rules, Bounds(faults=3, operations=1, steps=(2,))))
