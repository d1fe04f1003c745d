"""Which contract release a cluster speaks, and who may join it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import ContractMismatch
from federation.contract.release import CURRENT, LOWEST, Release
from federation.protocol.pinning import Range, highest_common, pin_with

releases = st.builds(Release, st.integers(0, 2), st.integers(0, 3))
ranges = st.tuples(releases, releases).map(lambda pair: (min(pair), max(pair)))
EXACTLY: Range = (LOWEST, CURRENT)


def serves(worker: Range, release: Release) -> bool:
    return worker[0] <= release <= worker[1]


def test_an_empty_cluster_speaks_the_managers_own_release() -> None:
    assert highest_common([]) == CURRENT


@given(st.lists(ranges, max_size=4))
def test_the_pin_is_the_highest_release_that_all_serve(some: list[Range]) -> None:
    pin = highest_common(some)
    known = {LOWEST, CURRENT, *(r for one in some for r in one)}
    common = [r for r in known if LOWEST <= r <= CURRENT and all(serves(one, r) for one in some)]
    assert pin == max(common, default=None)


@given(ranges, st.lists(ranges, max_size=3), st.lists(st.just(CURRENT) | releases, max_size=3))
def test_a_worker_joins_only_when_it_serves_the_pin_and_everything_queued(
    worker: Range, live: list[Range], queued: list[Release]
) -> None:
    pin = highest_common([worker, *live])
    if pin is not None and all(serves(worker, release) for release in queued):
        assert pin_with(worker, live, queued) == pin
        return
    with pytest.raises(ContractMismatch) as refusal:
        pin_with(worker, live, queued)
    assert refusal.value.detail["worker"] == f"{worker[0]}-{worker[1]}"


def test_a_worker_of_another_contract_is_refused_and_told_both_ranges() -> None:
    newer = Release(CURRENT.major + 1, 0)
    with pytest.raises(ContractMismatch) as refusal:
        pin_with((newer, newer), [], [])
    assert str(newer) in refusal.value.message
    assert f"{LOWEST} to {CURRENT}" in refusal.value.message
    assert refusal.value.detail == {"worker": f"{newer}-{newer}", "manager": f"{LOWEST}-{CURRENT}"}


def test_a_worker_that_cannot_serve_what_is_queued_is_told_which_releases_those_are() -> None:
    older, oldest = Release(0, 9), Release(0, 7)
    with pytest.raises(ContractMismatch) as refusal:
        pin_with(EXACTLY, [EXACTLY], [older, CURRENT, oldest, older])
    assert refusal.value.detail["queued"] == "0.7, 0.9"


def test_the_order_of_workers_does_not_matter() -> None:
    wide: Range = (Release(0, 1), Release(9, 9))
    assert pin_with(wide, [EXACTLY], []) == pin_with(EXACTLY, [wide], []) == CURRENT
