"""Questions are answered and outcomes applied, in order, once, by the table."""

import msgspec
import pytest
from manager.world import HeldResult, copy_of, failed, question_of, report_of, seen

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.records import OperationState


def test_a_granted_operation_shows_as_running_on_its_worker(world):
    made = world.create()
    answer = world.ask(made, worker="w7")
    record = world.record(made)
    assert (answer.verdict, answer.attempt) == ("grant", 1)
    assert (record.state, record.worker, record.attempt) == (OperationState.RUNNING, "w7", 1)
    assert record.started_at is not None


class _BrokenMeter:
    """Counts how often it is told, and fails every time."""

    def __init__(self):
        self.told = 0

    def settled(self, _record, _outcome):
        self.told += 1
        raise RuntimeError

    def applied(self, _seconds):
        self.told += 1
        raise RuntimeError


def test_a_meter_that_fails_stops_no_result_from_being_applied(world):
    meter = _BrokenMeter()
    world.manager.results.measured_by(meter)
    for name in ("web-1", "web-2"):
        made = world.create(name)
        world.carry_out(made)
        assert world.record(made).state is OperationState.SUCCEEDED
    world.until(lambda: meter.told >= 4)


class _KeepingMeter:
    def __init__(self):
        self.told = []

    def settled(self, record, outcome):
        self.told.append((record, outcome))

    def applied(self, seconds):
        """Nothing of it is kept."""


@pytest.mark.parametrize("kind", ["succeeded", "failed", "unknown"])
def test_the_meter_is_told_of_an_operation_as_the_store_has_it(world, kind):
    meter = _KeepingMeter()
    world.manager.results.measured_by(meter)
    made = world.create()
    world.ask(made)
    code = {"succeeded": None, "failed": "conflict", "unknown": "outcome_unknown"}[kind]
    outcome = seen(world.record(made), "running") if kind == "succeeded" else Outcome(kind=OutcomeKind(kind), code=code)
    world.report(made, outcome)
    world.until(lambda: meter.told)
    assert meter.told == [(world.record(made), world.record(made).outcome)]
    assert world.record(made).state == kind


def test_the_same_question_gets_the_same_grant(world):
    made = world.create()
    question = question_of(world.record(made), "q-same")
    assert world.put_question(question) == world.put_question(question)
    assert world.record(made).attempt == 1


def test_a_second_attempt_waits_for_what_remains_of_the_first_ones_lease(world):
    made = world.create()
    world.ask(made)
    world.clock.seconds += 2.0
    answer = world.ask(made, worker="w2", delivery_count=1)
    assert (answer.verdict, answer.attempt, answer.wait_seconds) == ("grant", 2, 5.0)


def test_an_outcome_settles_the_operation_and_updates_the_instance(world):
    made = world.create()
    world.carry_out(made)
    assert world.record(made).state is OperationState.SUCCEEDED
    instance = world.manager.estate.instance("web-1")
    assert (instance.state, instance.node) == ("running", "n1")


def test_an_outcome_of_an_attempt_that_was_superseded_is_dropped_and_counted(world):
    made = world.create()
    world.ask(made)
    world.ask(made, worker="w2", delivery_count=1)
    world.report(made, seen(made, "running"), attempt=1)
    assert world.record(made).state is OperationState.RUNNING
    assert world.manager.results.counters["dropped_outcome"] == 1
    world.report(made, seen(made, "stopped"), attempt=2, worker="w2")
    assert world.manager.estate.instance(made.key).state == "stopped"


def test_outcome_and_next_question_of_one_batch_are_applied_in_their_order(world):
    made = world.create()
    paused = world.change("pause", made.key)
    world.ask(made)
    world.manager.results.on_result(HeldResult(report_of(world.record(made), seen(made, "running"), 1, "w1")))
    assert world.ask(paused).verdict == "grant"


def test_a_gap_publishes_everything_from_the_position_on_again(world):
    made = world.create()
    paused = world.change("pause", made.key)
    world.until(lambda: len(world.bus.published) == 2)
    assert world.ask(paused).verdict == "gap"
    world.until(lambda: len(world.bus.published) == 4)
    assert [(c.sequence, c.round) for c in world.bus.published[2:]] == [(1, 2), (2, 2)]


def test_a_gap_of_an_old_copy_publishes_nothing(world):
    made = world.create()
    paused = world.change("pause", made.key)
    world.until(lambda: len(world.bus.published) == 2)
    world.ask(paused)
    world.until(lambda: len(world.bus.published) == 4)
    assert world.ask(paused, round=1).verdict == "gap"
    world.carry_out(made)
    assert len(world.bus.published) == 4


def test_an_unknown_outcome_parks_the_instance_and_holds_everything_behind_it(world):
    made = world.create()
    paused = world.change("pause", made.key)
    world.ask(made)
    world.report(made, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    assert world.manager.estate.instance(made.key).parked_by == made.id
    assert world.ask(paused).verdict == "parked"


def test_a_code_that_the_operation_does_not_declare_is_a_driver_bug_here_too(world):
    made = world.create()
    world.carry_out(made)
    paused = world.change("pause", made.key)
    world.ask(paused)
    world.report(paused, failed("image_rejected"))
    outcome = world.record(paused).outcome
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "driver_bug")
    assert "image_rejected" in outcome.message


@pytest.mark.parametrize("attempts", [5])
def test_an_operation_that_was_granted_five_times_is_poison(world, attempts):
    made = world.create()
    for delivery in range(attempts):
        assert world.ask(made, delivery_count=delivery).verdict == "grant"
    assert world.ask(made, delivery_count=attempts).verdict == "poison"
    assert world.record(made).outcome.code == "poison"
    assert world.manager.estate.instance(made.key).parked_by == made.id


def test_a_question_about_an_operation_that_nobody_accepted_is_refused(world):
    made = world.create()
    question = question_of(world.record(made), "q", operation="01a20336-0c59-7465-9ed0-fa7d41e2d169")
    answer = world.put_question(question)
    assert answer.verdict == "refused"
    assert "no manager accepted" in answer.reason


def test_what_cannot_be_read_is_counted_and_does_not_stop_the_rest(world):
    unreadable = HeldResult(None, error="not msgpack")
    world.manager.results.on_result(unreadable)
    made = world.create()
    assert world.ask(made).verdict == "grant"
    assert unreadable in world.bus.acknowledged
    assert world.manager.results.counters["unreadable"] == 1


def test_a_failed_create_leaves_a_record_that_can_only_be_deleted(world):
    made = world.create()
    world.ask(made)
    world.report(made, failed("image_rejected"))
    assert world.manager.estate.instance(made.key).state == "failed"
    with pytest.raises(Exception, match="never made"):
        world.change("power_on", made.key)
    gone = world.change("destroy", made.key)
    world.ask(gone)
    world.report(gone, Outcome(kind=OutcomeKind.SUCCEEDED, result={}))
    assert world.manager.estate.instances(None, None, 10) == []


def test_a_dead_letter_of_the_next_operation_parks_and_of_a_later_one_does_not(world):
    made = world.create()
    paused = world.change("pause", made.key)
    assert not world.manager.dead_lettered(copy_of(paused), "delivery limit")
    assert world.manager.dead_lettered(copy_of(made), "delivery limit")
    assert world.record(made).outcome.code == "dead_lettered"
    assert not world.manager.dead_lettered(copy_of(made), "delivery limit")


@pytest.mark.parametrize("changed", [{"round": 2}, {"sequence": 9}, {"cluster": "other"}], ids=str)
def test_a_dead_letter_that_is_no_copy_of_the_newest_round_parks_nobody(world, changed):
    made = world.create()
    assert not world.manager.dead_lettered(copy_of(made, **changed), "rejected")
    assert world.ask(made).verdict == "grant"


@pytest.mark.parametrize(
    "changed",
    [{"cluster": "other"}, {"partition": 77}, {"sequence": 9}, {"round": 2}, {"round": 0}, {"delivery_count": 1 << 40}],
    ids=str,
)
def test_a_question_that_does_not_fit_its_operation_is_refused_and_changes_nothing(world, changed):
    made = world.create()
    refusal = world.ask(made, **changed)
    assert (refusal.verdict, refusal.attempt) == ("refused", 0)
    assert world.record(made).attempt == 0
    assert world.ask(made).verdict == "grant"


def test_an_outcome_from_a_worker_of_another_cluster_is_dropped(world):
    made = world.create()
    world.ask(made)
    report = report_of(world.record(made), failed("image_rejected"), 1, "w1")
    foreign = HeldResult(msgspec.structs.replace(report, cluster="other"))
    world.manager.results.on_result(foreign)
    world.until(lambda: foreign in world.bus.acknowledged)
    assert world.record(made).state == "running"
    assert world.manager.results.counters["forged"] == 1


@pytest.mark.parametrize(
    "lie",
    [
        Outcome(kind=OutcomeKind.SUCCEEDED),
        Outcome(kind=OutcomeKind.SUCCEEDED, result={"power_state": 5, "node": {"a": 1}}),
        Outcome(kind=OutcomeKind.REFUSED, code="cancelled"),
        Outcome(kind=OutcomeKind.FAILED, code=None),
    ],
    ids=str,
)
def test_an_outcome_that_the_operation_cannot_have_parks_as_a_driver_bug(world, lie):
    made = world.create()
    world.ask(made)
    world.report(made, lie)
    record = world.record(made)
    assert (record.state, record.outcome.code) == ("unknown", "driver_bug")


def test_an_answer_that_cannot_be_sent_does_not_stop_the_others(world):
    made, other = world.create(), world.create("web-2")
    send = world.bus.answer

    def fail_for_a_monster(cluster, worker, answer):
        if worker == "monster":
            raise ValueError(worker)
        send(cluster, worker, answer)

    world.bus.answer = fail_for_a_monster
    asked = HeldResult(question_of(world.record(made), "q", "monster"))
    world.manager.results.on_result(asked)
    world.until(lambda: asked in world.bus.acknowledged)
    assert world.ask(other).verdict == "grant"
