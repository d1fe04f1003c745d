"""What a worker does with messages that it cannot or may not execute."""

import time

import msgspec
import pytest
from worker.tiny_driver import Acts, TinyDriver, eventually
from worker.world import Copy

from federation.contract.outcomes import OutcomeKind


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
    eventually(lambda: world.acked, "the acknowledgement")
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
