"""A worker that dies in the middle loses nothing, doubles nothing, reorders nothing (claims C1 to C4)."""

import random
import signal
import time

import pytest
from acceptance.estate import life

from federation.testing.faults import Action, Fault, FaultControl, Phase

KILLS = 200


def started(estate, operation):
    record = estate.ask("operation", operation=operation["id"])
    return record if record["state"] == "running" else None


def test_an_operation_whose_worker_is_killed_is_completed_by_the_other_within_lease_and_margin(estate):
    estate.start("w1", "w2", pace=1.0)
    (instance,) = estate.make(1)
    operation = estate.change("suspend", instance)
    record = estate.until(lambda: started(estate, operation))
    killed = time.monotonic()
    estate.kill(record["worker"])
    second = estate.until(lambda: (r := estate.ask("operation", operation=operation["id"]))["attempt"] == 2 and r)
    assert second["worker"] != record["worker"]
    done = estate.settle(operation)
    assert done["state"] == "succeeded"
    execution = max(estate.history().executions, key=lambda e: e.began)
    assert (execution.operation, execution.attempt) == (operation["id"], 2)
    assert execution.began - killed < estate.lease + estate.margin + 2.0
    assert estate.judge().clean, estate.judge().to_text()


def test_where_nothing_was_in_flight_the_next_operation_starts_within_two_seconds(estate):
    estate.start("w1", "w2")
    instances = estate.make(12)
    served = {i: estate.settle(estate.change("reboot", i, mode="hard"))["worker"] for i in instances}
    theirs = [instance for instance, worker in served.items() if worker == "w1"]
    assert theirs, "w1 served no partition"
    killed = time.time()
    estate.kill("w1")
    operations = [estate.change("pause", instance) for instance in theirs]
    for operation in operations:
        done = estate.settle(operation)
        assert (done["state"], done["worker"], done["attempt"]) == ("succeeded", "w2", 1)
        assert done["started_at"] - max(killed, done["submitted_at"]) < 2.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_kills_under_load_lose_double_and_reorder_nothing(make_estate):
    estate = make_estate(lease=0.6, margin=0.15, options={"FEDERATION_MANAGER_GRANTS": "1000"})
    workers = ["w1", "w2", "w3"]
    estate.start(*workers, pace=0.02, partitions=16)
    chance = random.Random(2014)
    instances = estate.make(24)
    lives = {instance: life(10_000, chance) for instance in instances}
    kills = 0
    while kills < KILLS:
        for instance in chance.sample(instances, 8):
            name, arguments = next(lives[instance])
            estate.change(name, instance, **arguments)
        victim = chance.choice(workers)
        if estate.processes[victim].poll() is None and admitted(estate, victim):
            estate.kill(victim)
            kills += 1
            estate.start_worker(victim, 0.02)
        else:
            time.sleep(0.02)
    counts = estate.settle_all(180)
    assert counts.get("parked", 0) == 0
    assert set(counts) - {"parked"} == {"succeeded"}
    report = estate.judge()
    assert report.clean, report.to_text()
    assert report.counts.accepted > KILLS


def admitted(estate, worker):
    """Whether it has joined since it was started last: its log says so."""
    log = estate.log(worker)
    return log.count("worker admitted") >= log.count("worker starts")


def test_an_operation_that_kills_its_worker_every_time_parks_its_instance_as_poison(make_estate):
    estate = make_estate(lease=0.5, margin=0.1)
    estate.start("w1", "w2")
    (instance,) = estate.make(1)
    control = FaultControl(estate.state)
    control.plant(Fault(action=Action.KILL, phase=Phase.BEFORE, operation="pause", times=None))
    operation = estate.change("pause", instance)
    while estate.ask("operation", operation=operation["id"])["state"] not in {"unknown", "succeeded"}:
        for worker in ("w1", "w2"):
            if estate.processes[worker].poll() is not None:
                estate.start_worker(worker)
        time.sleep(0.1)
    record = estate.ask("operation", operation=operation["id"])
    assert (record["state"], record["outcome"]["code"], record["attempt"]) == ("unknown", "poison", 5)
    control.clear()
    done = estate.until(lambda: estate.run("instance", "resolve", instance, "--retry"), 30)
    assert done.returncode == 0, done.stderr
    assert estate.ask("instance", instance=instance)["state"] == "paused"


@pytest.mark.timeout(240)
def test_a_worker_that_is_told_to_stop_finishes_what_it_runs_and_nothing_fails(estate):
    estate.start("w1", "w2", pace=0.3)
    chance = random.Random(7)
    instances = estate.make(10)
    operations = [estate.change(name, i, **arguments) for i in instances for name, arguments in life(4, chance)]
    estate.until(lambda: any(o["worker"] == "w1" for o in estate.ask("operations", state="running")))
    estate.kill("w1", signal.SIGTERM)
    assert estate.processes["w1"].wait(60) == 0
    estate.settle_all()
    records = [estate.ask("operation", operation=o["id"]) for o in operations]
    assert {r["state"] for r in records} == {"succeeded"}
    assert {r["attempt"] for r in records} == {1}
    assert estate.judge().clean, estate.judge().to_text()


@pytest.mark.timeout(240)
def test_a_third_worker_joins_under_load_without_one_operation_failing_or_reordering(estate):
    estate.start("w1", "w2", pace=0.05)
    instances = estate.make(16)
    lives = {instance: life(1000, random.Random(instance)) for instance in instances}
    estate.start_worker("w3", 0.05)
    deadline = time.monotonic() + 60
    while "w3" not in {o["worker"] for o in estate.ask("operations", limit=200)}:
        assert time.monotonic() < deadline, "the third worker got no work"
        for instance in instances:
            name, arguments = next(lives[instance])
            estate.change(name, instance, **arguments)
    counts = estate.settle_all()
    assert set(counts) - {"parked"} == {"succeeded"}
    records = estate.ask("operations", limit=1000)
    assert {r["attempt"] for r in records} == {1}
    assert estate.judge().clean, estate.judge().to_text()
