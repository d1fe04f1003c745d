"""Two worker processes share one hypervisor, and it outlives each of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from testing.scenarios import GIB, INSTANCE, full_spec, new_id, spec

from federation.contract import requests as r
from federation.contract.instances import Flavour
from federation.contract.outcomes import OutcomeKind
from federation.testing.faults import Action, Fault, FaultControl, Phase
from federation.testing.history import Accepted, History, Settled, check
from federation.testing.hypervisor.log import HypervisorControl, read_log

PROGRAM = Path(__file__).parent / "worker_process.py"


class Worker:
    def __init__(self, settings):
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, name, request, operation, attempt=1):
        line = {
            "name": name, "operation": operation, "attempt": attempt, "request": msgspec.to_builtins(request)
        }  # fmt: skip
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def do(self, name, request, operation=None, attempt=1):
        self.send(name, request, operation or new_id(), attempt)
        return self.receive()


@pytest.fixture
def start_worker(tmp_path):
    workers = []

    def starting(**settings):
        workers.append(Worker({"state_directory": str(tmp_path)} | settings))
        return workers[-1]

    yield starting
    for worker in workers:
        worker.process.stdin.close()
        try:
            worker.process.wait(10)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait(10)


@pytest.fixture
def faults(tmp_path):
    control = FaultControl(tmp_path)
    yield control
    control.close()


CREATE = r.Create(instance=INSTANCE, spec=full_spec())


def test_what_one_worker_makes_the_other_sees_and_may_change(start_worker):
    one, two = start_worker(), start_worker()
    made = one.do("create", CREATE)["result"]
    assert two.do("get_instance", r.GetInstance(instance=INSTANCE))["result"] == made
    assert two.do("power_off", r.PowerOff(instance=INSTANCE))["result"]["power_state"] == "stopped"
    assert one.do("power_off", r.PowerOff(instance=INSTANCE))["result"]["power_state"] == "stopped"


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", ["allocate_disk", "define", "start"])
def test_a_worker_killed_at_a_call_is_replaced_by_the_other_without_a_trace(
    kind, phase, start_worker, faults, tmp_path
):
    one, two = start_worker(delays={"start": {"mean": 0.05}}), start_worker()
    name = faults.plant(Fault(action=Action.KILL, phase=phase, kind=kind))
    operation = new_id()
    assert one.do("create", CREATE, operation) is None
    assert one.process.wait(10) == -signal.SIGKILL
    assert len(faults.wait_until_fired(name)) == 1
    assert two.do("create", CREATE, operation, attempt=2)["result"]["power_state"] == "running"
    log = read_log(tmp_path)
    accepted = Accepted(
        operation=operation, cluster="test", key=INSTANCE, sequence=1, name="create",
        arguments=msgspec.to_builtins(CREATE),
    )  # fmt: skip
    report = check(
        History(
            accepted=(accepted,),
            settled=(Settled(operation=operation, kind=OutcomeKind.SUCCEEDED, attempts=2),),
            effects=log.effects,
            executions=log.executions,
            finals=log.finals,
        )
    )
    assert report.clean, report.to_text()
    assert {e.pid for e in log.effects} <= {one.process.pid, two.process.pid}
    assert [e.how for e in log.executions] == [None, "returned"]


def test_a_call_under_way_survives_its_worker_and_the_next_attempt_waits_for_it(start_worker, faults, tmp_path):
    one, two = start_worker(), start_worker()
    one.do("create", CREATE)
    faults.plant(Fault(action=Action.SLOW, kind="write_memory", seconds=0.5))
    faults.plant(Fault(action=Action.KILL, phase=Phase.UNDER_WAY, kind="write_memory"))
    operation = new_id()
    assert one.do("suspend", r.Suspend(instance=INSTANCE), operation) is None
    killed = time.monotonic()
    assert two.do("suspend", r.Suspend(instance=INSTANCE), operation, attempt=2)["result"]["power_state"] == "suspended"
    assert time.monotonic() - killed > 0.3
    written, gone = [e for e in read_log(tmp_path).effects if e.operation == operation]
    assert (written.kind, written.attempt, written.pid) == ("write_memory", 1, one.process.pid)
    assert (gone.kind, gone.attempt, gone.pid) == ("suspend", 2, two.process.pid)
    assert written.ended <= gone.started


def test_two_workers_under_load_lose_no_change_and_overbook_nothing(start_worker, tmp_path):
    one, two = start_worker(), start_worker()
    for worker in (one, two):
        worker.do("probe", r.Probe())  # both are up before either begins
    for worker in (one, two):
        for number in range(60):
            request = r.Create(
                instance=new_id(),
                spec=spec(f"{worker.process.pid}-{number}", flavour=Flavour(vcpus=1, memory_bytes=GIB)),
            )
            worker.send("create", request, new_id())
    answers = [worker.receive() for worker in (one, two) for _ in range(60)]
    assert all("result" in answer for answer in answers)
    log = read_log(tmp_path)
    assert [e.sequence for e in log.effects] == list(range(1, 361))
    ended = [e.ended for e in log.effects]
    assert ended == sorted(ended)
    nodes = one.do("list_nodes", r.ListNodes())["result"]["nodes"]
    assert (nodes[0]["instances"], nodes[0]["memory_bytes_used"]) == (120, 120 * GIB)
    control = HypervisorControl(tmp_path)
    assert all(control.machine(e.key).boots == 1 for e in log.effects)
    control.close()
