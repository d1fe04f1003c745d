"""The model can fail: each thing that the protocol is made of, taken away, and what breaks then."""

from __future__ import annotations

import pytest
from protocol.model.catalogue import MUTATIONS, NOTHING_LOST, Mutation
from protocol.model.explore import Explored, explore


def fallen(explored: Explored) -> str | None:
    if explored.violation is not None:
        return explored.violation.claim
    return NOTHING_LOST if explored.stuck else None


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.claim], ids=lambda m: m.name)
def test_the_protocol_breaks_without(mutation: Mutation) -> None:
    explored = explore(mutation.parts, *mutation.scope)
    assert fallen(explored) == mutation.claim, f"without {mutation.name}: {explored}"
    assert explored.history or explored.stuck, "the shortest history that breaks it is told"


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.claim is None], ids=lambda m: m.name)
def test_within_these_bounds_nothing_breaks_without(mutation: Mutation) -> None:
    """What another part of the protocol makes up for; the remark in the catalogue says which."""
    explored = explore(mutation.parts, *mutation.scope)
    assert fallen(explored) is None, f"without {mutation.name}: {explored}"
    assert mutation.remark


def test_a_counterexample_reads_as_a_story() -> None:
    mutation = next(m for m in MUTATIONS if m.name == "the wait of row 7")
    told = str(explore(mutation.parts, *mutation.scope)).splitlines()
    assert told[0].startswith("C2 exclusion: attempt 1 of operation 1 changes something after attempt 2 may have acted")
    assert told[1:] == [
        "    broker confirms copy: operation 1, round 1",
        "    manager handles A's question for operation 1 (round 1, delivery 0)",
        "    worker A: attempt 1 of operation 1 guards, go",
        "  ! flap: from worker A to worker B",
        "    manager handles B's question for operation 1 (round 1, delivery 1)",
        "    worker A: attempt 1 of operation 1 lands, step 1",
    ]
