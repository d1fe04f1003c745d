"""The contract's releases: what each frozen one asks, a driver that serves it answers."""

from __future__ import annotations

import pytest

from federation.conformance.asking import creation
from federation.conformance.bench import Bench, Subject
from federation.contract.evolution.frozen import ReleaseFiles
from federation.contract.operations import find
from federation.contract.release import CURRENT, Release
from federation.worker.boundary import method_name

EACH = pytest.mark.parametrize("release", ReleaseFiles().releases(), ids=str)


def _serves(bench: Bench, release: Release) -> bool:
    lowest, highest = (Release.parse(one) for one in bench.description.releases)
    return lowest <= release <= highest


@pytest.mark.clause("VER-1")
@EACH
def test_an_instance_lives_its_life_in_a_release_that_is_served(
    bench: Bench, subject: Subject, release: Release
) -> None:
    """Requests as the release has them, from create to destroy; outside the driver's range the worker refuses."""
    run = bench.do("create", creation(start=False)(bench, subject), release=str(release))
    if not _serves(bench, release):
        assert run.code == "contract_mismatch"
        return
    run.result()
    for name in ("power_on", "power_off", "destroy"):
        bench.succeed(name, {"instance": subject.instance}, release=str(release))


@pytest.mark.clause("VER-1", "DRV-7")
@EACH
def test_every_operation_of_a_release_that_is_served_is_there(bench: Bench, release: Release) -> None:
    """Unless it needs a capability that the driver does not declare."""
    if not _serves(bench, release):
        return
    missing = []
    for declared in ReleaseFiles().read(release)["operations"]:
        capability = declared["capability"]
        if capability is None or capability in bench.flags:
            operation = find(declared["name"], declared["revision"])
            run = bench.do(operation.name, {"surprise": 1}, release=str(release))
            missing += [method_name(operation)] if run.code == "contract_mismatch" else []
    assert missing == []


@pytest.mark.clause("VER-2")
def test_a_release_that_is_not_served_is_refused_with_both_ranges(bench: Bench, subject: Subject) -> None:
    """contract_mismatch, and nothing is made."""
    newer = Release(CURRENT.major + 1, 0)
    run = bench.do("create", creation()(bench, subject), release=str(newer))
    assert run.code == "contract_mismatch"
    assert str(newer) in run.outcome.message
    assert bench.description.releases[0] in run.outcome.message
    assert bench.observer.look(subject.instance) is None
