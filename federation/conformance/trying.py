"""How a scenario is tried: what it does undisturbed is the reference for every disturbed run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from federation.conformance.bench import Bench, Subject
from federation.conformance.observing import comparable
from federation.conformance.plugin import CAPABILITY
from federation.conformance.process import Run
from federation.conformance.scenarios import SCENARIOS, Scenario
from federation.conformance.scripted_call import Script, What
from federation.contract.capabilities import Capability
from federation.contract.operations import Operation, find

CLOCK_SECONDS = 0.001
_references: dict[tuple[int, str], Reference] = {}
_states: dict[tuple[int, str, int], Any] = {}


@dataclass(frozen=True, slots=True)
class Reference:
    """One undisturbed run; ``before`` and ``after`` as the observer saw it, ``result`` without identities."""

    before: Any
    after: Any
    result: Any
    guards: int
    gaps: tuple[float, ...]
    """Seconds from each guard to the driver's next word."""
    followed_by_guard: tuple[bool, ...]
    """Whether that next word was a guard again."""


def require(bench: Bench, flags: Iterable[Capability]) -> None:
    """Skip the case, naming the capability, unless the driver declares all of them."""
    missing = sorted(set(flags) - bench.flags)
    if missing:
        pytest.skip(f"{CAPABILITY}{missing[0]}")


def prepared(bench: Bench, scenario: Scenario) -> tuple[Subject, dict[str, Any]]:
    """A new instance in the state from which the scenario is tried, and the request; skips for a capability."""
    require(bench, scenario.needs(bench))
    subject = bench.subject()
    scenario.prepare(bench, subject)
    return subject, scenario.ask(bench, subject)


def reference(bench: Bench, scenario: Scenario) -> Reference:
    """The undisturbed run, made once for each bench; AssertionError when it does not do what the row says.

    The first creation may fill what instances share, such as a cache of images: then the second is the reference.
    """
    key = (id(bench), scenario.id)
    for _ in range(2 if scenario.name == "create" else 1) if key not in _references else ():
        subject, request = prepared(bench, scenario)
        before = bench.look(subject)
        run = bench.do(scenario.name, request, operation=subject.operation)
        result = run.result()
        scenario.expect(bench, subject, result)
        after = bench.look(subject)
        gaps, followed = _gaps(run)
        _references[key] = Reference(before, after, plain(result, subject), run.guards, gaps, followed)
        bench.discharge(subject)
    return _references[key]


def plain(result: Any, subject: Subject) -> Any:
    """A result without what makes it another instance's."""
    return comparable(result, *subject.identities())


def state_when_killed_before(bench: Bench, scenario: Scenario, guard: int) -> Any:
    """What is there after a death in the n-th guard, and before anybody recovers."""
    key = (id(bench), scenario.id, guard)
    if key not in _states:
        subject, request = prepared(bench, scenario)
        run = bench.disturbed(scenario.name, request, subject.operation, Script(what=What.KILL_BEFORE, at=guard))
        assert run.died, f"{scenario.id} asked for leave less than {guard} times this time"
        _states[key] = bench.settle(subject)
        bench.discharge(subject)
    return _states[key]


def kill_and_recover(bench: Bench, scenario: Scenario, script: Script) -> Any:
    """Kill where the script says, recover on another worker, and compare with the undisturbed run.

    Returns what the observer saw between death and recovery.  AssertionError names what differs.
    """
    undisturbed = reference(bench, scenario)
    subject, request = prepared(bench, scenario)
    killed = bench.disturbed(scenario.name, request, subject.operation, script)
    where = f"{scenario.id}, {script.what} {script.at}"
    assert killed.died or script.what is not What.KILL_BEFORE, f"{where}: the driver did not ask for leave so often"
    between = bench.settle(subject) if script.what is What.KILL_BEFORE else None
    if script.what is What.KILL_BEFORE:
        _states[id(bench), scenario.id, script.at] = between
    recovered = bench.do(scenario.name, request, operation=subject.operation, attempt=2)
    assert recovered.code == "succeeded", f"{where}: the recovery ended {recovered.outcome}"
    assert plain(recovered.result(), subject) == undisturbed.result, f"{where}: the recovery answered otherwise"
    assert bench.look(subject) == undisturbed.after, f"{where}: the recovery left something else"
    bench.discharge(subject)
    return between


def scenarios_of(operation: str) -> list[Scenario]:
    """Every row of one operation."""
    return [scenario for scenario in SCENARIOS if scenario.name == operation]


def usable_scenario(bench: Bench, operation: str) -> Scenario:
    """The first row of the operation that the driver can do; skips, naming the capability, when there is none."""
    rows = scenarios_of(operation)
    for scenario in rows:
        if scenario.needs(bench) <= bench.flags:
            return scenario
    require(bench, rows[0].needs(bench))
    raise AssertionError(operation)


def expect_refusal(run: Run, *codes: str, told: str = "") -> None:
    """The driver refused with one of these codes, which its operation declares, before it changed anything."""
    assert not run.died, f"{run.errand.name} killed its process"
    assert run.outcome.code in codes, f"{run.errand.name} ended {run.outcome}, expected {' or '.join(codes)}"
    operation: Operation = find(run.errand.name)
    assert operation.may_raise(str(run.outcome.code)), f"{operation.name} does not declare {run.outcome.code}"
    words = (run.done.error if run.done is not None and run.errand.bare else run.outcome.message) or ""
    assert told.casefold() in words.casefold(), f"the message does not say {told!r}: {words}"


def _gaps(run: Run) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    assert run.done is not None
    gaps, followed = [], []
    for event, following in zip(run.done.trace, run.done.trace[1:], strict=False):
        if event.kind == "guard":
            gaps.append(max(CLOCK_SECONDS, following.at - event.at))
            followed.append(following.kind == "guard")
    return tuple(gaps), tuple(followed)
