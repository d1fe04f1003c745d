"""How a worker joins, stays known, and follows the epochs of its cluster."""

from worker.tiny_driver import Acts, TinyDriver, eventually

from federation.contract.errors import ContractMismatch
from federation.contract.outcomes import OutcomeKind
from federation.worker.errors import ExitCode


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
