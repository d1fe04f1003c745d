"""The inventory of a large cluster: how fast it is there, how fast a change is seen, and how many requests that takes."""

from __future__ import annotations

import importlib.util
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.instances import PowerState

_here = Path(__file__)


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"vmware_{name}", _here.with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_lab, _proxies = _load("conftest"), _load("faulty_proxy")


class Crowd:
    """A vCenter with so many machines that are nobody's, and a driver behind a proxy that counts."""

    def __init__(self, simulator: Any, folder: Path, machines: int) -> None:
        self.vcenter = simulator.launch(folder, "-hosts", "8", "-vms", str(machines))
        self.proxy = _proxies.FaultyProxy(self.vcenter, folder / "proxy")
        self.lab = _lab.Lab(self.vcenter, folder)
        quiet = msgspec.structs.replace(self.lab.settings.timeouts, watch_seconds=600.0)
        self.driver = self.lab.another_driver(port=self.proxy.port, ca_file=self.proxy.ca_file, timeouts=quiet)

    def counted(self) -> tuple[int, float]:
        """Machines on all nodes by the inventory of a driver that has just started, and after how many seconds."""
        start = time.monotonic()
        driver = self.lab.another_driver()
        nodes = driver.list_nodes(self.lab.call(), r.ListNodes()).nodes
        return sum(node.instances for node in nodes), time.monotonic() - start

    def page(self, limit: int = 200) -> dict[str, PowerState]:
        request = r.ListInstances(foreign=True, limit=limit)
        return {one.id: one.power_state for one in self.driver.list_instances(self.lab.call(), request).instances}

    def change(self) -> tuple[float, int]:
        """Seconds from a change in vCenter to its being seen, and the requests that took."""
        identity = next(iter(self.page()))
        machine = self.lab.eyes.machine(identity)
        before = sum(self.proxy.seen.values())
        machine.PowerOffVM_Task()
        start = time.monotonic()
        inventory = self.driver._fleet.inventory()
        seconds = time.monotonic() - start
        requests = sum(self.proxy.seen.values()) - before
        seen = next(look.power_state for look in inventory.values() if look.id == identity)
        assert seen is PowerState.STOPPED
        assert self.page()[identity] is PowerState.STOPPED
        return seconds, requests

    def close(self) -> None:
        self.lab.close()
        self.proxy.close()
        self.vcenter.stop()


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_thousand_machines_are_there_in_five_seconds_and_a_change_is_seen_in_one_by_as_few_requests_as_of_ten(
    vcenter_simulator, tmp_path, record_property
):
    few = Crowd(vcenter_simulator, _made(tmp_path / "few"), 10)
    _, needed = few.change()
    few.close()
    crowd = Crowd(vcenter_simulator, _made(tmp_path / "crowd"), 1000)
    machines, first = crowd.counted()
    assert machines == 1000
    start = time.monotonic()
    assert len(crowd.page()) == 200
    page = time.monotonic() - start
    seconds, requests = crowd.change()
    record_property("first_seconds", round(first, 2))
    record_property("change_seconds", round(seconds, 2))
    record_property("requests", requests)
    print(
        f"1,000 machines: there after {first:.2f} s, a page of 200 {page:.2f} s, a change {seconds:.2f} s in {requests} requests (of 10: {needed})"
    )
    crowd.close()
    assert first < 5
    assert seconds < 1
    assert requests == needed


def test_pages_hold_every_machine_once_while_others_come_and_go(lab):
    for _ in range(3):
        lab.create(start=False)
    seen: list[str] = []
    after = None
    while True:
        page = lab.driver.list_instances(lab.call(), r.ListInstances(limit=1, after=after))
        seen += [one.id for one in page.instances]
        lab.eyes.make(f"passing-{uuid.uuid4().hex[:6]}")
        if page.next is None:
            break
        after = page.next
    assert seen == sorted(set(seen))
    assert len(seen) == 3


def test_what_others_do_is_seen_by_the_next_read(lab):
    made = lab.create()
    native = lab.eyes.machine(made.id)
    native.PowerOffVM_Task()
    states = {one.id: one.power_state for one in lab.driver.list_instances(lab.call(), r.ListInstances()).instances}
    assert states[made.id] is PowerState.STOPPED
    native.Destroy_Task()
    assert made.id not in [one.id for one in lab.driver.list_instances(lab.call(), r.ListInstances()).instances]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
