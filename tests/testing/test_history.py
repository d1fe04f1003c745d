"""The history checker: correct histories are clean, and every kind of violation is found, named and proven by records."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from testing.histories import Model, correct_histories, kinds, one_instance, only, planned

from federation.contract.operations import Lane, on_lane
from federation.contract.outcomes import OutcomeKind
from federation.testing.history import ABSENT, Execution, FindingKind, History, Settled, check
from federation.testing.history.expectations import EXPECTATIONS

K = FindingKind


def test_every_ordered_operation_of_the_contract_has_an_expectation():
    assert set(EXPECTATIONS) == {o.name for o in on_lane(Lane.ORDERED)}


@settings(max_examples=300, deadline=None)
@given(correct_histories())
def test_a_correct_history_is_clean_whatever_crashed_failed_or_was_refused(history):
    report = check(history)
    assert report.clean, report.to_text()
    succeeded = [one for one in history.settled if one.kind is OutcomeKind.SUCCEEDED]
    assert report.counts.applied_once == len(succeeded)


@settings(max_examples=100, deadline=None)
@given(correct_histories())
def test_the_json_form_of_a_history_says_everything(history):
    assert History.from_json(history.to_json()) == history


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_an_operation_that_is_nowhere_is_lost(history, data):
    gone = data.draw(st.sampled_from(history.settled))
    missing = replace(history, settled=tuple(one for one in history.settled if one != gone))
    found = [f for f in check(missing).findings if f.kind is K.LOST]
    assert [f.records[0].operation for f in found] == [gone.operation]
    assert K.LOST not in kinds(replace(missing, pending=frozenset({gone.operation})))
    key = next(one.key for one in history.accepted if one.operation == gone.operation)
    assert K.LOST not in kinds(replace(missing, parked=frozenset({key})))


def again(effect, history, **changes):
    """A copy of an effect at the end of the log, a second after everything else."""
    end = 1 + max(
        *(e.ended for e in history.effects), *(max(e.began, e.guarded or 0, e.ended or 0) for e in history.executions)
    )
    later = {"sequence": len(history.effects) + 1, "started": end, "ended": end + 0.5} | changes
    return replace(effect, **later)


def with_effect(history, effect):
    finals = tuple(replace(f, seen=effect.after) if f.key == effect.key else f for f in history.finals)
    return replace(history, effects=(*history.effects, effect), finals=finals)


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_a_visible_effect_made_twice_is_a_duplicate(history, data):
    good = {one.operation for one in history.settled if one.kind is OutcomeKind.SUCCEEDED}
    visible = [effect for effect in history.effects if effect.visible and effect.operation in good]
    assume(visible)
    twice = data.draw(st.sampled_from(visible))
    planted = with_effect(history, again(twice, history))
    (found,) = [f for f in check(planted).findings if f.kind is K.DUPLICATED]
    assert [(r.operation, r.kind, r.target) for r in found.records] == [(twice.operation, twice.kind, twice.target)] * 2


def test_an_effect_that_was_undone_and_is_made_again_by_the_next_attempt_is_no_duplicate():
    model = Model()
    steps, arguments = planned("create", ABSENT, 1)
    accepted = model.accept("a", "create", arguments)
    undo = ("delete_disk", "root", True, ABSENT)
    model.execute(accepted, 1, [steps[0], undo], ends=False)
    model.execute(accepted, 2, steps)
    model.settle(accepted, OutcomeKind.SUCCEEDED, None, 2)
    assert check(model.history()).clean, check(model.history()).to_text()


def test_a_marker_written_twice_is_no_duplicate():
    model = one_instance("create")
    steps, _ = planned("suspend", model.seen["a"], 1)
    accepted = model.accept("a", "suspend")
    mark = ("mark", "", False, steps[0][3])
    model.execute(accepted, 1, [steps[0], mark], ends=False)
    model.execute(accepted, 2, [mark, steps[1]])
    model.settle(accepted, OutcomeKind.SUCCEEDED, None, 2)
    assert check(model.history()).clean, check(model.history()).to_text()


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_an_earlier_operation_that_acts_after_a_later_one_is_out_of_order(history, data):
    pairs = [
        (early, late)
        for early in history.effects
        for late in history.effects
        if early.key == late.key and sequence(history, early) < sequence(history, late)
    ]
    assume(pairs)
    early, _ = data.draw(st.sampled_from(pairs))
    planted = with_effect(history, again(early, history, kind="other"))
    found = [f for f in check(planted).findings if f.kind is K.OUT_OF_ORDER]
    assert early.operation in {f.records[-1].operation for f in found}


def sequence(history, effect):
    return next(one.sequence for one in history.accepted if one.operation == effect.operation)


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_effects_of_two_operations_or_attempts_that_share_a_moment_overlap(history, data):
    pairs = [
        (a, b)
        for a in history.effects
        for b in history.effects
        if a.key == b.key and a.execution != b.execution and a.started < b.started
    ]
    assume(pairs)
    first, second = data.draw(st.sampled_from(pairs))
    longer = replace(first, ended=(second.started + second.ended) / 2)
    planted = replace(history, effects=tuple(longer if e is first else e for e in history.effects))
    found = [f for f in check(planted).findings if f.kind is K.OVERLAPPING]
    assert any(longer in f.records for f in found)


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_an_execution_that_begins_before_the_end_of_the_operation_before_it_overlaps_or_is_out_of_order(history, data):
    last = {s.operation: s.attempts for s in history.settled}
    order = {one.operation: one.sequence for one in history.accepted}
    deciding = [e for e in history.executions if e.ended is not None and e.attempt == last[e.operation]]
    pairs = [
        (a, b)
        for a in deciding
        for b in history.executions
        if a.key == b.key and order[a.operation] + 1 == order[b.operation]
    ]
    assume(pairs)
    first, second = data.draw(st.sampled_from(pairs))
    inside = data.draw(st.booleans())
    early = replace(second, began=(first.began + first.ended) / 2 if inside else first.began - 0.25)
    planted = replace(history, executions=tuple(early if e is second else e for e in history.executions))
    expected = K.OVERLAPPING if inside else K.OUT_OF_ORDER
    assert any(early in f.records for f in check(planted).findings if f.kind is expected)


def test_an_attempt_that_runs_twice_at_a_time_overlaps():
    model = one_instance("create", "pause")
    twin = replace(model.executions[-1], id=999, pid=999)
    finding = only(replace(model.history(), executions=(*model.executions, twin)))
    assert finding.kind is K.OVERLAPPING
    assert "ran twice at a time" in finding.message


def test_the_longest_of_several_effects_is_the_one_that_is_compared():
    model = one_instance("create", "pause", crashes=())
    long = replace(model.effects[0], ended=model.effects[-1].ended)
    history = replace(model.history(), effects=(long, *model.effects[1:]))
    found = [f for f in check(history).findings if f.kind is K.OVERLAPPING]
    assert any(f.records == (long, model.effects[-1]) for f in found)


@settings(max_examples=100, deadline=None)
@given(correct_histories(), st.data())
def test_an_attempt_that_acts_after_a_newer_one_is_found_with_both(history, data):
    newer = [
        (effect, execution)
        for effect in history.effects
        for execution in history.executions
        if execution.operation == effect.operation and execution.attempt > effect.attempt
        and (execution.guarded is not None or execution.ended is not None)
    ]  # fmt: skip
    assume(newer)
    effect, _ = data.draw(st.sampled_from(newer))
    late = again(effect, history, kind="other")
    found = [f for f in check(with_effect(history, late)).findings if f.kind is K.REVOKED]
    assert any(late in f.records for f in found)


def test_a_newer_attempt_that_was_let_through_by_its_guard_is_enough_to_revoke():
    model = one_instance("create", "pause", crashes=(1,))
    guarded = replace(model.executions[-1], guarded=model.effects[-1].started - 0.25, ended=None, how=None)
    history = replace(model.history(), executions=(*model.executions[:-1], guarded))
    assert only(history).kind is K.REVOKED
    lingering = replace(guarded, guarded=None)
    assert check(replace(history, executions=(*model.executions[:-1], lingering))).clean


@pytest.mark.parametrize("how", ["revoked", "returned"])
def test_a_paused_worker_that_wakes_up_late_and_changes_nothing_is_allowed(how):
    model = one_instance("create", "pause", crashes=(1,))
    model.run("a", "unpause")
    old = next(e for e in model.executions if e.name == "pause" and e.attempt == 1)
    woken = replace(old, ended=model.tick(), how=how)
    history = replace(model.history(), executions=tuple(woken if e is old else e for e in model.executions))
    assert check(history).clean, check(history).to_text()


def test_a_revoked_execution_is_not_what_settled_its_operation():
    model = one_instance("create", "pause")
    model.settled[-1] = replace(model.settled[-1], kind=OutcomeKind.FAILED, code="driver_bug")
    old = model.executions[-1]
    model.run("a", "unpause")
    woken = replace(old, ended=model.tick(), how="revoked")
    history = replace(model.history(), executions=tuple(woken if e is old else e for e in model.executions))
    assert check(history).clean, check(history).to_text()


def test_an_operation_settled_twice_is_contradicted():
    model = one_instance("create")
    model.settled.append(Settled(operation=model.settled[0].operation, kind=OutcomeKind.FAILED, code="timed_out"))
    found = check(model.history()).of(K.CONTRADICTED)
    assert found[0].records == (model.settled[0], model.settled[-1])
    assert "settled twice" in found[0].message


def test_a_history_that_makes_no_sense_is_refused():
    model = one_instance("create", "pause")
    with pytest.raises(ValueError, match="accepted twice"):
        check(replace(model.history(), accepted=(model.accepted[0],) * 2))
    same = replace(model.accepted[1], sequence=1)
    with pytest.raises(ValueError, match="both number 1"):
        check(replace(model.history(), accepted=(model.accepted[0], same)))


def test_an_instance_whose_beginning_is_not_known_is_judged_from_what_is_known():
    model = one_instance("create", "pause", "unpause", "reboot")
    first = model.accepted[0]
    history = replace(
        model.history(),
        accepted=tuple(model.accepted[1:]),
        settled=tuple(model.settled[1:]),
        effects=tuple(e for e in model.effects if e.operation != first.operation),
        executions=tuple(e for e in model.executions if e.operation != first.operation),
    )
    assert check(history).clean, check(history).to_text()


def test_the_same_key_on_two_clusters_is_two_instances():
    model = one_instance("create", "pause")
    history = model.history()
    elsewhere = tuple(replace(e, cluster="d", sequence=1, execution=9000) for e in model.effects[-1:])
    found = check(replace(history, effects=(*history.effects, *elsewhere))).findings
    assert {(f.kind, f.cluster) for f in found} == {(K.UNACCOUNTED, "d")}


def test_the_report_names_the_verdict_the_counts_and_the_records_as_text_and_as_json():
    model = one_instance("create", "pause")
    clean = check(model.history())
    assert clean.to_text() == (
        "clean: accepted 2, settled 2 (2 succeeded), applied once 2, lost 0, duplicated 0, overlapping 0,"
        " out of order 0, revoked effects 0, contradicted outcomes 0, unaccounted 0"
    )
    broken = check(replace(model.history(), settled=()))
    text = broken.to_text(limit=1)
    assert text.startswith("VIOLATED: accepted 2, settled 0 (none), applied once 0, lost 2,")
    assert "operation op1 (create) was accepted and is nowhere" in text
    assert "accepted operation=op1 cluster=c key=a sequence=1 name=create" in text
    assert text.endswith("and 1 more")
    data = json.loads(broken.to_json())
    assert (data["clean"], data["tally"]["lost"], data["counts"]["accepted"]) == (False, 2, 2)
    assert data["findings"][0]["records"][0]["record"] == "accepted"
    assert data["findings"][0]["records"][1]["record"] == "effect"


def test_a_hundred_thousand_effects_are_checked_in_a_few_seconds():
    model = Model()
    for number in range(50):
        key = f"k{number}"
        model.run(key, "create")
        for _ in range(10):
            model.run(key, "power_off", crashes=(1,))
            model.run(key, "power_on")
    small = model.history()
    copies = -(-100_000 // len(small.effects))
    model_of = [renamed(small, copy) for copy in range(copies)]
    history = History(
        accepted=tuple(one for h in model_of for one in h.accepted),
        settled=tuple(one for h in model_of for one in h.settled),
        effects=tuple(one for h in model_of for one in h.effects),
        executions=tuple(one for h in model_of for one in h.executions),
        finals=tuple(one for h in model_of for one in h.finals),
    )
    assert len(history.effects) >= 100_000
    started = time.thread_time()
    report = check(history)
    assert time.thread_time() - started < 5
    assert report.clean


def renamed(history, copy):
    def new(records, **names):
        return tuple(
            replace(one, **{field: f"{getattr(one, field)}-{copy}" for field in names if hasattr(one, field)})
            for one in records
        )

    both = {"operation": True, "key": True}
    return History(
        accepted=new(history.accepted, **both),
        settled=new(history.settled, operation=True),
        effects=new(history.effects, **both),
        executions=new(history.executions, **both),
        finals=new(history.finals, key=True),
    )


def test_an_execution_without_a_known_end_asks_nothing_of_the_next_one():
    model = one_instance("create", "pause")
    open_end = tuple(replace(e, ended=None, how=None) for e in model.executions)
    assert isinstance(open_end[0], Execution)
    assert check(replace(model.history(), executions=open_end)).clean
