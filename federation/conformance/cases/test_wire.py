"""Through the real manager, broker and workers: what the bus does to commands, the driver's instances never feel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from federation.conformance.asking import creation
from federation.conformance.bench import Bench, Subject
from federation.conformance.expecting import shows
from federation.conformance.trying import require
from federation.conformance.wire import Installation, Mischief
from federation.contract.capabilities import Capability

_INSTANCES = 3


def _life(bench: Bench, subject: Subject) -> list[tuple[str, dict[str, Any]]]:
    """Operations that fail in any other order: each needs the state that the one before it leaves."""
    this = {"instance": subject.instance}
    given = bench.target.conformance
    flavour = {"vcpus": given.vcpus + 1, "memory_bytes": given.resized_memory_bytes}
    resize = [("resize", this | {"flavour": flavour})] if Capability.RESIZE in bench.flags else []
    return [
        ("create", creation()(bench, subject)),
        ("power_off", this | {"mode": "hard"}),
        *resize,
        ("power_on", this),
    ]


@pytest.mark.clause("WIR-1")
@pytest.mark.parametrize("mischief", Mischief)
def test_whatever_the_bus_does_the_order_stays(bench: Bench, mischief: Mischief, tmp_path: Path) -> None:
    """Copies, losses, gaps, stale copies and another order on the wire: every operation once, in the accepted order."""
    subjects = [bench.subject(number) for number in range(_INSTANCES)]
    with Installation(bench, tmp_path, mischief) as installation:
        lives = [_life(bench, subject) for subject in subjects]
        operations = [installation.submit(*step) for steps in zip(*lives, strict=True) for step in steps]
        records = installation.settled(operations)
    assert [str(record.state) for record in records] == ["succeeded"] * len(records), [r.outcome for r in records]
    for subject in subjects:
        found = bench.succeed("get_instance", {"instance": subject.instance})
        shows(power_state="running", name=subject.name)(bench, subject, found)


@pytest.mark.clause("WIR-1", "CON-1")
def test_a_lost_worker_s_operations_are_finished_by_another(bench: Bench, tmp_path: Path) -> None:
    """A worker's connection is cut in the middle: the other one recovers what it did, and goes on."""
    subjects = [bench.subject(number) for number in range(_INSTANCES)]
    with Installation(bench, tmp_path) as installation:
        lives = [_life(bench, subject) for subject in subjects]
        operations = [installation.submit(*step) for steps in zip(*lives, strict=True) for step in steps]
        installation.drop_a_worker()
        records = installation.settled(operations)
    assert {str(record.state) for record in records} == {"succeeded"}, [record.outcome for record in records]


@pytest.mark.clause("WIR-1", "ERR-1")
def test_an_operation_that_fails_lets_the_next_one_in(bench: Bench, subject: Subject, tmp_path: Path) -> None:
    """A failure is an outcome: what was accepted behind it is carried out."""
    require(bench, [])
    with Installation(bench, tmp_path, workers=1) as installation:
        this = {"instance": subject.instance}
        made = installation.submit("create", creation(start=False)(bench, subject))
        again = installation.submit("power_off", this | {"mode": "hard"})
        ended = installation.submit("power_on", this)
        records = installation.settled([made, again, ended])
    assert [str(record.state) for record in records] == ["succeeded"] * 3
    assert bench.succeed("get_instance", this)["power_state"] == "running"
