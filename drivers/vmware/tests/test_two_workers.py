"""Twenty machines made by two workers of one cluster, one of them killed in the middle: real broker, real processes."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from acceptance.estate import CLUSTER, Estate
from pyVmomi import vim

MIB = 1 << 20
COUNT = 20
_spec = importlib.util.spec_from_file_location("vmware_lab", Path(__file__).with_name("conftest.py"))
_lab: Any = importlib.util.module_from_spec(_spec)
sys.modules["vmware_lab"] = _lab
_spec.loader.exec_module(_lab)


class VCenterEstate(Estate):
    """An installation whose workers drive a vCenter."""

    driver: dict[str, Any]

    def start_worker(self, name: str, *_: Any, **__: Any) -> Any:
        config = self.folder / f"{name}.toml"
        config.write_text(
            "[driver]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.driver.items())
        )
        options = ["--driver", "vmware", "--cluster", CLUSTER, "--id", name, "--driver-config", str(config)]
        return self.spawn(name, "worker", *options)

    def start_installation(self, *workers: str) -> None:
        self.start_manager()
        self.ask("create_cluster", cluster=CLUSTER, driver="vmware", partitions=16)
        for worker in workers:
            self.start_worker(worker)
        self.until_admitted(*workers)

    def make_one(self, name: str) -> dict[str, Any]:
        spec = {
            "name": name,
            "flavour": {"vcpus": 1, "memory_bytes": 64 * MIB},
            "boot": {"kind": "template", "template": _lab.TEMPLATE},
            "data_disks": [{"size_bytes": MIB}],
        }
        return self.submit("create", cluster=CLUSTER, arguments={"spec": spec}, idempotency_key=f"create {name}")


@pytest.fixture
def large(vcenter_simulator, tmp_path):
    """A vCenter of eight hosts on which every call takes a moment, so that a kill meets something under way."""
    vcenter = vcenter_simulator.launch(tmp_path, "-hosts", "8", "-vms", "0", "-delay", "25")
    eyes = _lab.Eyes(vcenter)
    eyes.make_template()
    yield vcenter, eyes
    vcenter.stop()


@pytest.fixture
def estate(rabbitmq, large, tmp_path):
    vcenter, eyes = large
    secret = tmp_path / "driver-password"
    secret.write_text(vcenter.password)
    folder = tmp_path / "estate"
    folder.mkdir()
    estate = VCenterEstate(rabbitmq.add_vhost(f"vmware-{time.time_ns()}"), folder)
    estate.driver = {
        "host": vcenter.host,
        "port": vcenter.port,
        "username": vcenter.user,
        "password_file": str(secret),
        "ca_file": vcenter.ca_file,
        "datastore": eyes.datastore().name,
    }
    yield estate
    estate.end()


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_twenty_machines_made_by_two_workers_of_which_one_ends_are_twenty_and_no_file_is_left_over(
    estate, large, ending
):
    _, eyes = large
    before = eyes.files()
    estate.start_installation("first", "second")
    began = time.monotonic()
    made = [estate.make_one(f"web-{number}") for number in range(COUNT)]
    estate.until(lambda: estate.ask("counts")[CLUSTER].get("succeeded", 0) >= 2, 60)
    estate.kill("first", ending)
    done = estate.ask_patiently("counts")[CLUSTER]["succeeded"]
    states = Counter(estate.settle(operation, 200)["state"] for operation in made)
    seconds = time.monotonic() - began
    estate.until(lambda: estate.processes["first"].poll() is not None, 30)
    print(f"{COUNT} machines in {seconds:.1f} s; {done} were done at the kill; {dict(states)}")
    assert states == {"succeeded": COUNT}
    assert done < COUNT, "the kill came too late"
    machines = [one for one in eyes.machines() if not one.config.template]
    assert sorted(one.name for one in machines) == sorted(f"web-{number}" for number in range(COUNT))
    assert {one.config.instanceUuid for one in machines} == {operation["key"] for operation in made}
    assert {str(one.runtime.powerState) for one in machines} == {"poweredOn"}
    cloned = Counter(event.vm.name for event in eyes.events(vim.event.VmClonedEvent))
    assert cloned == {f"web-{number}": 1 for number in range(COUNT)}
    removed = [event.vm.name for event in eyes.events(vim.event.VmRemovedEvent)]
    assert removed == []
    folders = Counter(path.partition("] ")[2].partition("/")[0] for path in eyes.files() - before)
    assert folders.keys() == {f"web-{number}" for number in range(COUNT)}
    assert set(Counter(folders.values())) == {folders["web-0"]}, f"files by machine: {folders}"
