"""The history checker on outcomes: what they say is compared with what the hypervisor shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from testing.histories import kinds, one_instance, only

from federation.contract.outcomes import OutcomeKind
from federation.testing.history import ABSENT, FindingKind, Seen, check

K = FindingKind


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (("create",), "pause"),
        (("create",), "power_off"),
        (("create",), "reboot"),
        (("create",), "suspend"),
        (("create",), "destroy"),
        ((), "create"),
        (("create", "power_off"), "power_on"),
        (("create", "power_off"), "resize"),
        (("create", "pause"), "unpause"),
        (("create", "suspend"), "resume"),
    ],
)
def test_a_success_without_its_effects_is_contradicted(before, name):
    whole = one_instance(*before, name, size=3)
    last = whole.accepted[-1]
    kept = tuple(e for e in whole.effects if e.operation != last.operation)
    seen = kept[-1].after if kept else ABSENT
    history = replace(whole.history(), effects=kept, finals=(replace(whole.history().finals[0], seen=seen),))
    finding = only(history)
    assert finding.kind is K.CONTRADICTED
    assert f"({name}) succeeded, but" in finding.message
    assert last in finding.records


def test_a_resize_to_another_size_than_asked_for_is_contradicted():
    model = one_instance("create", "power_off", "resize", size=3)
    wrong = replace(model.effects[-1], after=replace(model.effects[-1].after, memory_bytes=7))
    history = replace(
        model.history(),
        effects=(*model.effects[:-1], wrong),
        finals=(replace(model.history().finals[0], seen=wrong.after),),
    )
    assert "memory_bytes should be 3221225472, is 7" in only(history).message


def test_an_operation_that_was_refused_and_acted_is_contradicted():
    model = one_instance("create", "pause")
    refused = replace(model.settled[-1], kind=OutcomeKind.REFUSED, code="deadline_passed", attempts=0)
    finding = only(replace(model.history(), settled=(*model.settled[:-1], refused)))
    assert finding.kind is K.CONTRADICTED
    assert "was refused, yet it acted" in finding.message


@pytest.mark.parametrize("code", ["already_exists", "hypervisor_refused", "timed_out", "cancelled"])
def test_a_failure_that_says_nothing_is_left_and_leaves_something_is_contradicted(code):
    model = one_instance("create")
    failed = replace(model.settled[-1], kind=OutcomeKind.FAILED, code=code)
    finding = only(replace(model.history(), settled=(failed,)))
    assert finding.kind is K.CONTRADICTED
    assert code in finding.message


def test_nothing_is_asked_of_an_unknown_outcome_and_the_next_operation_starts_from_what_is_there():
    model = one_instance("create", "pause")
    unknown = replace(model.settled[-1], kind=OutcomeKind.UNKNOWN, code="outcome_unknown")
    model.settled[-1] = unknown
    model.run("a", "unpause")
    assert check(model.history()).clean


@pytest.mark.parametrize("seen", [ABSENT, Seen(power_state="paused", vcpus=1, memory_bytes=1 << 30, boots=1)])
def test_a_final_state_that_is_not_what_the_operations_made_is_contradicted_and_unaccounted(seen):
    model = one_instance("create", "power_off", "power_on")
    history = replace(model.history(), finals=(replace(model.history().finals[0], seen=seen),))
    assert kinds(history) == {K.CONTRADICTED, K.UNACCOUNTED}


def test_a_destroy_that_leaves_a_disk_is_contradicted():
    model = one_instance("create", "destroy")
    left = model.effects[-2].after
    history = replace(
        model.history(), effects=tuple(model.effects[:-1]), finals=(replace(model.history().finals[0], seen=left),)
    )
    assert "nothing should be left, there is disks data0" in only(history).message


def test_an_operation_with_nothing_to_do_after_the_guest_acted_by_itself_contradicts_nobody():
    model = one_instance("create")
    gone = replace(
        model.effects[-1], sequence=len(model.effects) + 1, operation="", name="environment", kind="guest_left",
        attempt=0, execution=0, started=model.tick(), ended=model.now,
        after=replace(model.effects[-1].after, power_state="stopped"),
    )  # fmt: skip
    model.effects.append(gone)
    model.seen["a"] = gone.after
    model.run("a", "power_off")
    assert model.effects[-1] is gone
    assert check(model.history()).clean, check(model.history()).to_text()


def test_a_guest_that_crashes_by_itself_contradicts_nobody():
    model = one_instance("create")
    crash = replace(
        model.effects[-1], sequence=len(model.effects) + 1, operation="", name="environment", kind="crash_guest",
        attempt=0, execution=0, started=model.tick(), ended=model.now,
        after=replace(model.effects[-1].after, power_state="crashed"),
    )  # fmt: skip
    model.effects.append(crash)
    model.seen["a"] = crash.after
    assert check(model.history()).clean
    started = model.accept("a", "power_on")
    model.execute(started, 1, [("start", "", True, replace(crash.after, power_state="running", boots=2))])
    model.settle(started, OutcomeKind.SUCCEEDED, None, 1)
    assert check(model.history()).clean, check(model.history()).to_text()


def test_effects_of_an_operation_that_nobody_accepted_are_unaccounted():
    model = one_instance("create", "pause")
    history = replace(model.history(), accepted=tuple(model.accepted[:-1]))
    assert kinds(history) == {K.UNACCOUNTED, K.CONTRADICTED}
    assert any("was never accepted" in f.message for f in check(history).findings)


def test_an_attempt_that_was_never_granted_is_unaccounted():
    model = one_instance("create", "pause", crashes=(0,))
    settled = (*model.settled[:-1], replace(model.settled[-1], attempts=1))
    finding = only(replace(model.history(), settled=settled))
    assert finding.kind is K.UNACCOUNTED
    assert "attempt 2" in finding.message
