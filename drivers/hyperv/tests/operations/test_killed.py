"""SIGKILL at every call of a method: as soon as it is sent, and when it is answered; the next attempt ends as if nothing had been.

A call may have started a job that goes on while the next attempt begins.  At reads the host is as it was after the last call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

MIB = 1 << 20
PROGRAM = Path(__file__).with_name("mortal_driver.py")


class Worker:
    """A process that runs the driver in children and kills them where it is told to."""

    def __init__(self, lab) -> None:
        self._lab = lab
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, operation, call, attempt=1, kill_at=0, **request):
        order = {
            "settings": self._lab._settings(), "operation": operation, "call": call, "attempt": attempt,
            "kill_at": kill_at, "request": request,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


@pytest.fixture
def worker(lab):
    made = Worker(lab)
    yield made
    made.close()


def _seen(answer):
    """What does not differ between two instances."""
    kept = {name: answer[name] for name in ("node", "power_state", "vcpus", "memory_bytes", "owned", "metadata")}
    sizes = [disk.get("size_bytes") for disk in answer["disks"]]
    return kept | {"disks": sizes, "vlans": [one.get("vlan") for one in answer["interfaces"]]}


def _killed_everywhere(worker, operation, prepare, check):
    """Run once undisturbed, then killed at each call and behind it, and finished by the next attempt; how many kills."""
    request = prepare()
    whole = worker.run(operation, str(uuid.uuid4()), **request)
    assert not whole["killed"]
    check(request)
    moments = sorted({number + later for number in whole["changing"] for later in (0, 1)} - {whole["requests"] + 1})
    for number in moments:
        request, call = prepare(), str(uuid.uuid4())
        first = worker.run(operation, call, kill_at=number, **request)
        assert first["killed"], f"request {number} of {whole['requests']} was not sent"
        second = worker.run(operation, call, attempt=2, **request)
        assert _seen(second["answer"]) == _seen(whole["answer"]), f"killed at request {number}"
        check(request)
    return len(moments)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_creation_killed_at_any_call_is_finished_by_the_next_attempt(lab, worker):
    lab.create()  # the image is fetched

    def prepare():
        more = {
            "interfaces": [{"network": "external", "vlan": 7}], "data_disks": [{"size_bytes": 16 * MIB}],
            "metadata": {"k": "v"}, "guest": {"user_data": "#cloud-config\n"},
        }  # fmt: skip
        return {"instance": str(uuid.uuid4()), "spec": lab.spec(**more), "start": True}

    def check(request):
        name, instance = request["spec"]["name"], request["instance"]
        assert [one.kind for one in lab.cluster.effects() if one.name == name].count("enabled") == 1
        assert len([one for one in lab.cluster.host("HV1").machines() if one["ElementName"] == name]) == 1
        lab.ask("destroy", instance=instance)
        assert not [file for file in lab.files() if instance in file]

    assert _killed_everywhere(worker, "create", prepare, check) > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_migration_killed_at_any_call_is_finished_by_the_next_attempt(lab, worker):
    made = []

    def prepare():
        made.append(lab.create(start=True, guest={"user_data": "#cloud-config\n"}))
        return {"instance": made[-1].id, "node": "HV2", "mode": "live"}

    def check(request):
        name = made[-1].name
        kinds = [one.kind for one in lab.cluster.effects() if one.name == name]
        assert (kinds.count("migrate"), kinds.count("enabled")) == (1, 1)
        holders = [
            host.name for host in lab.cluster.hosts for one in host.machines() if one["ElementName"] == name
        ]  # fmt: skip
        assert holders == ["HV2"]
        assert not [file for file in lab.files("HV1") if request["instance"] in file]
        lab.ask("destroy", instance=request["instance"])

    assert _killed_everywhere(worker, "migrate", prepare, check) >= 3
