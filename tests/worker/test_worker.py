"""A whole worker, with its threads: grants, leases, revocations, outcomes, progress."""

import threading
import time

from worker.facts import FAST
from worker.tiny_driver import Acts, TinyDriver, eventually, key
from worker.world import Copy

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, TimedOut
from federation.contract.outcomes import OutcomeKind


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


def test_a_copy_that_arrives_while_the_operation_runs_waits_and_costs_no_attempt(world, run):
    acts = Acts()
    run(world.worker(TinyDriver(acts)))
    acts.closed_gates.add("op-1-1")
    operation = world.submit()
    eventually(lambda: acts.began == [(operation, 1)], "the first attempt")
    world.publish(Copy(world.consumers[0].held[0].command, world.consumers[0].held[0].partition, 1))
    acts.closed_gates.clear()
    acts.gates[operation].set()
    world.wait(operation)
    eventually(lambda: len(world.acked) == 2, "both deliveries acknowledged")
    assert acts.changes == [(operation, 1)]
    assert acts.began == [(operation, 1)]


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


def test_driver_threads_are_used_again_and_end_with_the_worker(world, run):
    names = set()
    worker = world.worker(TinyDriver(lambda _call, _request: names.add(threading.current_thread())))
    runner = run(worker)
    for _ in range(5):
        world.wait(world.submit())
    assert len(names) == 1
    worker.drain()
    runner.ended()
    eventually(lambda: not any(thread.is_alive() for thread in names), "the end of the thread")
