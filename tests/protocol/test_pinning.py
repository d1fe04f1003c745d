"""Which contract release a cluster speaks, and who may join it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.capabilities import Capabilities, Capability, Limits
from federation.contract.errors import ContractMismatch
from federation.contract.release import CURRENT, LOWEST, Release
from federation.protocol.pinning import Range, common_capabilities, highest_common, join, pin_for

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
    unserved = {release for release in queued if not serves(worker, release)}
    if pin is not None and all(any(serves(other, release) for other in live) for release in unserved):
        assert join(worker, live, queued) == (pin, tuple(sorted(unserved)))
        return
    with pytest.raises(ContractMismatch) as refusal:
        join(worker, live, queued)
    assert refusal.value.detail["worker"] == f"{worker[0]}-{worker[1]}"


def test_a_worker_of_another_contract_is_refused_and_told_both_ranges() -> None:
    newer = Release(CURRENT.major + 1, 0)
    with pytest.raises(ContractMismatch) as refusal:
        join((newer, newer), [], [])
    assert str(newer) in refusal.value.message
    assert f"{LOWEST} to {CURRENT}" in refusal.value.message
    assert refusal.value.detail == {"worker": f"{newer}-{newer}", "manager": f"{LOWEST}-{CURRENT}"}


def test_a_worker_that_cannot_serve_what_is_queued_is_told_which_releases_those_are() -> None:
    older, oldest = Release(0, 9), Release(0, 7)
    with pytest.raises(ContractMismatch) as refusal:
        join(EXACTLY, [EXACTLY], [older, CURRENT, oldest, older])
    assert refusal.value.detail["queued"] == "0.7, 0.9"


def test_the_order_of_workers_does_not_matter() -> None:
    wide: Range = (Release(0, 1), Release(9, 9))
    assert join(wide, [EXACTLY], []) == join(EXACTLY, [wide], []) == (CURRENT, ())


def test_a_worker_waits_while_another_carries_out_what_it_does_not_serve() -> None:
    old: Range = (LOWEST, LOWEST)
    assert join(old, [EXACTLY], [CURRENT, LOWEST, CURRENT]) == (LOWEST, (CURRENT,))


@given(ranges, st.lists(ranges, min_size=1, max_size=3), st.lists(ranges, max_size=2))
def test_who_waits_brings_the_pin_down_and_keeps_nobody_out(
    worker: Range, live: list[Range], waiting: list[Range]
) -> None:
    pin = highest_common([worker, *live])
    with_waiting = pin_for([worker, *live], waiting)
    assert (pin is None) == (with_waiting is None)
    assert pin is None or with_waiting is None or with_waiting <= pin
    if pin is not None:
        assert join(worker, live, [], waiting=waiting) == (with_waiting, ())


limits = st.builds(Limits, **{name: st.none() | st.integers(0, 3) for name in Limits.__struct_fields__})
declarations = st.builds(
    Capabilities,
    flags=st.frozensets(st.sampled_from(sorted(Capability)), max_size=4),
    limits=limits,
    image_formats=st.frozensets(st.sampled_from(["raw", "qcow2"])),
)


@given(st.lists(declarations, min_size=1, max_size=4))
def test_what_a_cluster_can_do_every_worker_of_it_can_do(declared: list[Capabilities]) -> None:
    common = common_capabilities(declared)
    for flag in Capability:
        assert (flag in common.flags) == all(flag in one.flags for one in declared)
    for name in Limits.__struct_fields__:
        given_limits = [limit for one in declared if (limit := getattr(one.limits, name)) is not None]
        assert getattr(common.limits, name) == (min(given_limits) if given_limits else None)
    assert all(common.image_formats <= one.image_formats for one in declared if one.image_formats)


@given(ranges, st.lists(ranges, max_size=3))
def test_no_pin_is_outside_what_all_managers_serve(managed: Range, workers: list[Range]) -> None:
    pin = highest_common(workers, managed)
    assert pin is None or serves(managed, pin)
