"""How a worker leaves: drained, stopped, stuck."""

import signal
import threading
import time

from worker.tiny_driver import Acts, TinyDriver, eventually

from federation.contract.outcomes import OutcomeKind
from federation.worker.errors import ExitCode


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


def test_a_signal_drains_a_worker_that_the_main_thread_runs(world):
    acts = Acts()
    worker = world.worker(TinyDriver(acts))
    operation = world.submit()
    acts.closed_gates.add(operation)
    worker.start()
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.drain())

    def later():
        eventually(lambda: acts.began, "the call")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        eventually(lambda: any(beat.draining for beat in world.heartbeats), "the worker drains")
        acts.gates[operation].set()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert worker.run_until_stopped() is ExitCode.STOPPED
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert world.wait(operation)[0].kind is OutcomeKind.SUCCEEDED


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
