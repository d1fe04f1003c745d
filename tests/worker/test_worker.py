"""A whole worker, with its threads, against partitions in memory and a manager that answers by the real table."""

import threading
import time
from collections import defaultdict

import msgspec
import pytest
from worker.scripted import FAST, Copy, TinyDriver, eventually, key

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, ContractMismatch, NotFound, TimedOut
from federation.contract.outcomes import OutcomeKind
from federation.worker.errors import ExitCode


class Acts:
    """A driver's body that records who ran when, and can be held at a gate by key."""

    def __init__(self):
        self.began = []
        self.ended = []
        self.changes = []
        self.gates = defaultdict(threading.Event)
        self.closed_gates = set()
        self.together = 0
        self.most_together = 0
        self._lock = threading.Lock()

    def __call__(self, call, request):
        with self._lock:
            self.began.append((call.operation, call.attempt))
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        try:
            if call.operation in self.closed_gates:
                self.gates[call.operation].wait(30)
            call.guard()
            self.changes.append((call.operation, call.attempt))
        finally:
            with self._lock:
                self.together -= 1
                self.ended.append((call.operation, call.attempt))


def test_an_operation_is_asked_for_executed_reported_and_then_acknowledged(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    operation = world.submit()
    (outcome,) = world.wait(operation)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert outcome.result["id"] == key(1)
    eventually(lambda: [c.command.operation for c in world.acked] == [operation], "the acknowledgement")
    assert world.verdicts == ["grant"]
    assert acts.changes == [(operation, 1)]


def test_operations_of_one_instance_run_in_order_and_those_of_different_instances_side_by_side(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    slow = world.submit(number=1)
    acts.closed_gates.add(slow)
    others = [world.submit(number=n) for n in (2, 3, 4, 5)]
    behind = [world.submit(number=1) for _ in range(5)]
    world.wait(*others)
    assert not {operation for operation, _ in acts.changes} & {slow, *behind}
    acts.gates[slow].set()
    world.wait(slow, *behind)
    of_one = [operation for operation, _ in acts.changes if operation in {slow, *behind}]
    assert of_one == [slow, *behind]
    assert acts.most_together >= 2


def test_no_more_operations_run_at_once_than_the_worker_may(world, run):
    acts = Acts()
    acts.closed_gates = {f"op-{n}-1" for n in range(1, 11)}
    run(world.worker(TinyDriver(acts), max_operations=3))
    operations = [world.submit(number=n) for n in range(1, 11)]
    eventually(lambda: len(acts.began) == 3, "three calls")
    for operation in operations:
        acts.gates[operation].set()
    world.wait(*operations)
    assert acts.most_together == 3


def test_renewals_keep_an_operation_of_several_leases_alive(world, run):
    def act(call, _request):
        ends = time.monotonic() + 3.2 * FAST.lease
        while time.monotonic() < ends:
            call.guard()
            call.sleep(0.01)

    worker = world.worker(TinyDriver(act))
    run(worker)
    (outcome,) = world.wait(world.submit())
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert world.verdicts[0] == "grant"
    assert world.verdicts.count("renewed") >= 6
    counted = worker.counters.snapshot()
    assert counted["lease_margin_least_seconds"] >= FAST.margin
    assert counted["guards"]["passed"] > 20


def test_without_renewals_a_guard_lets_nothing_through_after_the_lease_less_its_margin(world, run):
    passed = []

    def act(call, _request):
        while True:
            call.guard()
            passed.append(time.monotonic())
            call.sleep(0.005)

    run(world.worker(TinyDriver(act)))
    world.submit()
    eventually(lambda: passed, "the first change")
    asked = time.monotonic()
    world.deaf = True
    eventually(lambda: time.monotonic() > asked + 2 * FAST.lease, "two leases")
    assert max(passed) <= asked + FAST.lease - FAST.margin + 0.05
    quiet = len(passed)
    world.deaf = False
    eventually(lambda: len(passed) > quiet, "changes after the manager answers again")


def test_a_call_whose_connection_is_lost_makes_no_further_change_and_its_report_is_not_sent(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    acts.closed_gates.add("op-1-1")
    operation = world.submit()
    eventually(lambda: acts.began == [(operation, 1)], "the first attempt")
    world.lose(world.consumers[0])
    acts.closed_gates.clear()
    eventually(lambda: (operation, 2) in acts.began, "the second attempt")
    acts.gates[operation].set()
    (outcome,) = world.wait(operation)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    eventually(lambda: (operation, 1) in acts.ended, "the end of the first attempt")
    assert acts.changes == [(operation, 2)]
    assert [report.attempt for report in world.reports] == [2]


def test_losing_one_partition_revokes_only_its_own_calls(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    numbers = {}
    for n in range(1, 20):
        acts.closed_gates.add(f"op-{n}-1")
        operation = world.submit(number=n)
        world.settle_io()
        copy = next(c for c in world.consumers[0].held if c.command.operation == operation)
        numbers.setdefault(copy.partition, operation)
        if len(numbers) == 2:
            break
    zero, one = numbers[0], numbers[1]
    eventually(lambda: {(zero, 1), (one, 1)} <= set(acts.began), "both calls")
    world.lose(world.consumers[0], partition=0)
    eventually(lambda: (zero, 2) in acts.began, "the second attempt in partition 0")
    for gate in (zero, one):
        acts.gates[gate].set()
    world.wait(zero, one)
    assert (one, 1) in acts.changes
    assert (zero, 1) not in acts.changes


def test_an_operation_that_is_received_again_while_it_runs_revokes_the_older_call_first(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    acts.closed_gates.add("op-1-1")
    operation = world.submit()
    eventually(lambda: acts.began == [(operation, 1)], "the first attempt")
    acts.closed_gates.clear()
    world.publish(Copy(world.consumers[0].held[0].command, world.consumers[0].held[0].partition, 1))
    eventually(lambda: (operation, 2) in acts.changes, "the second attempt")
    acts.gates[operation].set()
    world.wait(operation)
    eventually(lambda: len(acts.ended) == 2, "the end of both")
    assert acts.changes == [(operation, 2)]
    eventually(lambda: len(world.acked) == 2, "both deliveries acknowledged")


def test_a_later_attempt_waits_until_the_older_lease_has_surely_ended(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    acts.closed_gates.add("op-1-1")
    operation = world.submit()
    eventually(lambda: acts.began, "the first attempt")
    acts.closed_gates.clear()
    lost = time.monotonic()
    world.lose(world.consumers[0])
    eventually(lambda: (operation, 2) in acts.changes, "the second attempt")
    assert time.monotonic() - lost >= FAST.lease * 2 / 3, "less than the lease since the last renewal"
    acts.gates[operation].set()


def test_a_cancelled_operation_is_told_by_its_next_renewal_and_may_undo(world, run):
    done = []

    def act(call, _request):
        call.guard()
        done.append("made")
        try:
            call.sleep(30)
        except Cancelled:
            call.guard()
            done.append("undone")
            raise

    run(world.worker(TinyDriver(act)))
    operation = world.submit()
    eventually(lambda: done, "the change")
    world.cancel(operation)
    (outcome,) = world.wait(operation)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "cancelled")
    assert done == ["made", "undone"]


def test_a_running_operation_is_told_that_its_deadline_passed_and_may_undo(world, run):
    done = []

    def act(call, _request):
        call.guard()
        done.append("made")
        try:
            call.sleep(30)
        except TimedOut:
            call.guard()
            done.append("undone")
            raise

    run(world.worker(TinyDriver(act)))
    (outcome,) = world.wait(world.submit(deadline=time.time() + 0.4))
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "timed_out")
    assert done == ["made", "undone"]


def test_an_outcome_is_sent_again_until_the_broker_has_it_and_only_then_the_delivery_acknowledged(world, run):
    world.refuses_reports = 3
    worker = world.worker(TinyDriver())
    run(worker)
    operation = world.submit()
    world.wait(operation)
    assert len(world.reports) == 4
    eventually(lambda: len(world.acked) == 1, "the acknowledgement")
    assert worker.counters.snapshot()["events"]["reports_retried"] == 3


def test_an_outcome_that_the_broker_leaves_without_an_answer_is_sent_again(world, run):
    world.silent_reports = 1
    run(world.worker(TinyDriver(), report_timeout=0.1))
    world.wait(world.submit())
    assert len(world.reports) == 2


def test_the_delivery_is_held_as_long_as_the_outcome_is_not_confirmed(world, run):
    world.refuses_reports = 1_000_000
    run(world.worker(TinyDriver()))
    world.submit()
    eventually(lambda: len(world.reports) > 3, "reports")
    assert world.acked == []
    world.refuses_reports = 0
    eventually(lambda: world.acked, "the acknowledgement")


def test_a_lost_question_is_sent_again_under_the_same_id(world, run):
    world.deaf = True
    run(world.worker(TinyDriver()))
    operation = world.submit()
    eventually(lambda: len(world.questions) >= 3, "questions")
    world.deaf = False
    world.wait(operation)
    assert len({question.id for question in world.questions if question.renews is None}) == 1


def test_a_driver_bug_is_reported_as_unknown_and_counted_under_the_drivers_name(world, run):
    def act(_call, _request):
        raise SystemExit(1)

    worker = world.worker(TinyDriver(act))
    run(worker)
    (outcome,) = world.wait(world.submit())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "driver_bug")
    counted = worker.counters.snapshot()
    assert counted["driver_bugs"] == {"tiny": 1}
    assert counted["operations"] == {"power_on.driver_bug": 1}
    assert counted["durations"]["power_on"]["count"] == 1
    assert world.wait(world.submit(number=2))[0].code == "driver_bug", "the worker goes on"


def test_what_is_refused_before_it_starts_is_acknowledged_and_never_executed(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    world.submit(deadline=time.time() - 1)
    eventually(lambda: len(world.acked) == 1, "the acknowledgement")
    assert world.verdicts == ["refused"]
    assert acts.began == []
    assert world.reports == []


def test_a_delivery_that_cannot_be_read_at_all_is_dead_lettered_and_the_worker_goes_on(world, run):
    worker = world.worker(TinyDriver())
    run(worker)
    world.publish(Copy(None, 0, error="headers are missing"))
    world.wait(world.submit())
    assert [copy.error for copy in world.rejected] == ["headers are missing"]
    assert worker.counters.snapshot()["events"]["rejected"] == 1


@pytest.mark.parametrize("foreign", [{"cluster": "other"}, {"partition": 7}])
def test_a_message_of_another_cluster_or_partition_is_dead_lettered(world, run, foreign):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    operation = world.submit()
    world.wait(operation)
    stray = msgspec.structs.replace(world.acked[0].command, **foreign)
    world.publish(Copy(stray, 0))
    eventually(lambda: world.rejected, "the rejection")
    assert len(acts.began) == 1


def test_a_command_with_an_unreadable_body_is_asked_for_and_reported_as_an_invalid_request(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    operation = world.submit(error="body is not msgpack: byte 7", arguments={})
    (outcome,) = world.wait(operation)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "invalid_request")
    assert "byte 7" in outcome.message
    assert world.verdicts == ["grant"]
    assert acts.began == []
    eventually(lambda: len(world.acked) == 1, "the acknowledgement")


def test_an_unknown_operation_and_a_release_that_is_not_served_fail_with_contract_mismatch(world, run):
    run(world.worker(TinyDriver()))
    outcomes = world.wait(world.submit("levitate", 1), world.submit(number=2, release="7.0"))
    assert {outcome.code for outcome in outcomes} == {"contract_mismatch"}
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.FAILED}


def test_driver_threads_never_hold_up_the_io_thread(world, run):
    def act(call, _request):
        ends = time.monotonic() + 0.3
        while time.monotonic() < ends:
            call.progress(None, "busy")
            call.guard()

    run(world.worker(TinyDriver(act), max_operations=8))
    world.wait(*(world.submit(number=n) for n in range(1, 9)))
    assert world.io.longest < 0.1


def test_progress_is_sent_latest_first_and_at_a_bounded_rate(world, run):
    def act(call, _request):
        ends = time.monotonic() + 0.5
        made = 0
        while time.monotonic() < ends:
            made += 1
            call.progress(made / 100, f"step {made}")
            call.sleep(0.001)

    run(world.worker(TinyDriver(act), progress_every=0.1))
    world.wait(world.submit())
    renewals = [q for q in world.questions if q.renews and q.stage]
    assert 2 <= len(world.progressed) <= 7
    assert renewals, "a renewal takes the latest progress along"
    percents = [progress.percent for progress in world.progressed]
    assert percents == sorted(percents)


def test_a_drained_worker_finishes_and_acknowledges_what_runs_and_gives_the_rest_back_in_order(world, run):
    acts = Acts()
    worker = world.worker(TinyDriver(acts), max_operations=1)
    runner = run(worker)
    first = world.submit(number=1)
    acts.closed_gates.add(first)
    eventually(lambda: acts.began, "the call")
    behind = [world.submit(number=1) for _ in range(3)]
    world.settle_io()
    worker.drain()
    eventually(lambda: any(beat.draining for beat in world.heartbeats), "the manager is told")
    acts.gates[first].set()
    assert runner.ended() is ExitCode.STOPPED
    assert world.wait(first)[0].kind is OutcomeKind.SUCCEEDED
    assert [copy.command.operation for copy in world.acked] == [first]
    assert [operation for operation, _ in acts.began] == [first]
    partition = world.acked[0].partition
    assert [copy.command.operation for copy in world.queues[partition]] == behind
    assert len(world.departures) == 1
    assert world.consumers == []


def test_an_idle_worker_leaves_at_once(world, run):
    driver = TinyDriver()
    worker = world.worker(driver)
    runner = run(worker)
    eventually(lambda: world.consumers, "the consumer")
    began = time.monotonic()
    worker.drain()
    assert runner.ended() is ExitCode.STOPPED
    assert time.monotonic() - began < 1.0
    assert driver.closed


def test_what_still_runs_at_the_drain_timeout_is_revoked_and_named(world, run, caplog):
    acts = Acts()
    worker = world.worker(TinyDriver(acts))
    runner = run(worker)
    operation = world.submit()
    acts.closed_gates.add(operation)
    eventually(lambda: acts.began, "the call")
    worker.drain(timeout=0.1)
    assert runner.ended() is ExitCode.DRAIN_INCOMPLETE
    assert f"power_on {operation}" in caplog.text
    acts.gates[operation].set()
    eventually(lambda: acts.ended, "the end of the revoked call")
    assert acts.changes == []
    assert world.reports == []


def test_asked_twice_to_leave_a_worker_leaves_at_once_and_its_messages_go_back(world, run):
    acts = Acts()
    worker = world.worker(TinyDriver(acts), drain_timeout=60.0)
    runner = run(worker)
    operation = world.submit()
    acts.closed_gates.add(operation)
    eventually(lambda: acts.began, "the call")
    worker.drain()
    worker.drain()
    assert runner.ended() is ExitCode.DRAIN_INCOMPLETE
    assert [copy.command.operation for queue in world.queues.values() for copy in queue] == [operation]
    acts.gates[operation].set()


def test_another_worker_recovers_what_a_stopped_one_left(world, run):
    acts, others = Acts(), Acts()
    first = world.worker(TinyDriver(acts), "w1")
    runner = run(first)
    operation = world.submit()
    acts.closed_gates.add(operation)
    eventually(lambda: acts.began, "the call")
    run(world.worker(TinyDriver(others), "w2"))
    eventually(lambda: len(world.consumers) == 2, "two consumers")
    first.stop()
    assert runner.ended() is ExitCode.STOPPED
    assert world.wait(operation)[0].kind is OutcomeKind.SUCCEEDED
    acts.gates[operation].set()
    eventually(lambda: acts.ended, "the end of the revoked call")
    assert acts.changes == []
    assert others.changes == [(operation, 2)]


def test_a_worker_whose_slots_are_all_taken_by_revoked_calls_that_hang_gives_itself_up(world, run, caplog):
    hanging = threading.Event()

    def hangs_in_the_hypervisor(_call, _request):
        hanging.wait(30)

    worker = world.worker(TinyDriver(hangs_in_the_hypervisor), max_operations=2, stuck_after=0.2)
    runner = run(worker)
    for number in (1, 2):
        world.submit(number=number)
    eventually(lambda: len(world.verdicts) == 2, "two grants")
    world.lose(world.consumers[0])
    assert runner.ended() is ExitCode.STUCK
    assert "hangs_in_the_hypervisor" in caplog.text, "the log says where"
    assert "op-1-1" in caplog.text
    hanging.set()


def test_a_worker_with_a_free_slot_does_not_give_itself_up(world, run):
    acts = Acts()
    acts.closed_gates = {"op-1-1"}
    worker = world.worker(TinyDriver(acts), max_operations=2, stuck_after=0.1)
    runner = run(worker)
    world.submit()
    eventually(lambda: acts.began, "the call")
    world.lose(world.consumers[0], comes_back=False)
    time.sleep(0.3)
    assert runner.code is None
    acts.gates["op-1-1"].set()


def test_nothing_is_consumed_before_the_manager_admits_the_worker(world, run):
    world.unreachable = 3
    worker = world.worker(TinyDriver())
    run(worker)
    world.wait(world.submit())
    assert len(world.announcements) == 4
    announced = world.announcements[-1]
    assert (announced.worker, announced.cluster, announced.description.driver) == ("w1", "c", "tiny")
    assert announced.description.releases == ("1.0", "1.0")


def test_a_refused_worker_ends_with_its_reason_and_a_code_of_its_own(world, run, caplog):
    world.refusal = ContractMismatch("the worker serves 9.0 to 9.1; this cluster speaks 1.0")
    runner = run(world.worker(TinyDriver()))
    assert runner.ended() is ExitCode.REFUSED
    assert "9.0 to 9.1" in caplog.text
    assert world.consumers == []
    assert len(world.announcements) == 1


def test_a_worker_can_be_stopped_while_the_manager_does_not_answer(world, run):
    world.unreachable = 1_000_000
    worker = world.worker(TinyDriver())
    runner = run(worker)
    eventually(lambda: len(world.announcements) >= 2, "tries")
    worker.drain()
    assert runner.ended() is ExitCode.STOPPED


def test_a_worker_that_the_manager_does_not_know_any_more_announces_itself_again_and_goes_on(world, run):
    worker = world.worker(TinyDriver())
    run(worker)
    eventually(lambda: world.heartbeats, "a heartbeat")
    consumer = world.consumers[0]
    world.known = False
    eventually(lambda: len(world.announcements) == 2, "the second announcement")
    world.wait(world.submit())
    assert world.consumers == [consumer], "the same channel"


def test_a_worker_goes_on_while_its_heartbeats_fail(world, run):
    worker = world.worker(TinyDriver())
    run(worker)
    eventually(lambda: world.heartbeats, "a heartbeat")
    world.unreachable = 3
    world.wait(world.submit())
    eventually(lambda: worker.counters.snapshot()["events"].get("heartbeats_failed") == 3, "failed heartbeats")


def test_heartbeats_tell_what_runs_and_what_is_held(world, run):
    acts = Acts()
    acts.closed_gates = {"op-1-1"}
    run(world.worker(TinyDriver(acts)))
    for _ in range(3):
        world.submit()
    eventually(
        lambda: any((b.load["running"], b.load["held"]) == (1, 3) for b in world.heartbeats),
        "the figures in a heartbeat",
    )
    acts.gates["op-1-1"].set()


def test_an_operator_can_ask_a_worker_through_the_manager_to_drain_and_leave(world, run):
    acts = Acts()
    runner = run(world.worker(TinyDriver(acts)))
    operation = world.submit()
    acts.closed_gates.add(operation)
    eventually(lambda: acts.began, "the call")
    world.drains = True
    eventually(lambda: any(beat.draining for beat in world.heartbeats), "the worker drains")
    acts.gates[operation].set()
    assert runner.ended() is ExitCode.STOPPED
    assert world.wait(operation)[0].kind is OutcomeKind.SUCCEEDED


def test_a_new_epoch_is_consumed_after_what_ran_in_the_old_one_is_finished(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    slow = world.submit()
    acts.closed_gates.add(slow)
    eventually(lambda: acts.began, "the call")
    world.epoch = 2
    beats = len(world.heartbeats)
    eventually(lambda: len(world.heartbeats) > beats, "the heartbeat that brings the news")
    assert len(world.announcements) == 1, "it finishes first"
    acts.gates[slow].set()
    world.wait(slow)
    eventually(lambda: len(world.announcements) == 2, "the second announcement")
    world.wait(world.submit())
    assert [consumer.admission.epoch for consumer in world.consumers] == [2]


def test_a_query_is_answered_beside_the_ordered_operations(world, run):
    worker = world.worker(TinyDriver())
    run(worker)
    answered = worker.queries.handle("get_instance", 1, {"instance": key(1)})
    assert answered["kind"] == "succeeded"
    assert answered["result"]["id"] == key(1)
    assert worker.counters.snapshot()["queries"] == {"get_instance.succeeded": 1}


def test_a_query_that_hangs_is_given_up_in_time_and_takes_only_its_own_slot(world):
    hanging = threading.Event()

    def act(_call, request):
        if request.instance == key(1):
            hanging.wait(30)

    worker = world.worker(TinyDriver(act), query_timeout=0.1, max_queries=2)
    outcome = worker.queries.handle("get_instance", 1, {"instance": key(1)})
    assert (outcome["kind"], outcome["code"]) == ("failed", "timed_out")
    assert worker.queries.handle("get_instance", 1, {"instance": key(2)})["kind"] == "succeeded"
    worker.queries.handle("get_instance", 1, {"instance": key(1)})
    full = worker.queries.handle("get_instance", 1, {"instance": key(2)})
    assert full["code"] == "timed_out"
    assert "2 query slots" in full["message"]
    hanging.set()
    eventually(lambda: worker.queries.handle("get_instance", 1, {"instance": key(2)})["kind"] == "succeeded", "a slot")


def test_a_query_never_raises(world):
    def act(_call, _request):
        raise NotFound("no such machine")

    worker = world.worker(TinyDriver(act))
    assert worker.queries.handle("get_instance", 1, {"instance": key(1)})["code"] == "not_found"
    assert worker.queries.handle("get_instance", 1, {})["code"] == "invalid_request"
    assert worker.queries.handle("nothing", 1, {})["code"] == "contract_mismatch"
    assert worker.queries.handle(["a"], {}, None)["code"] == "invalid_request"
    assert worker.queries.handle("power_on", 1, {"instance": key(1)})["code"] == "contract_mismatch"


def test_a_driver_that_catches_everything_still_makes_no_change_once_it_is_revoked(world, run):
    changes = []

    def act(call, _request):
        while True:
            try:
                call.guard()
                changes.append(call.attempt)
                call.sleep(0.01)
            except Revoked:
                changes.append("revoked")
                raise
            except Exception:  # noqa: BLE001
                continue

    run(world.worker(TinyDriver(act)))
    world.submit()
    eventually(lambda: changes, "a change")
    world.lose(world.consumers[0], comes_back=False)
    eventually(lambda: "revoked" in changes, "the revocation")
    assert changes[-1] == "revoked"
