"""The inventory of a host that is full: the same number of requests whatever it holds, quick, and in agreement with itself."""

from __future__ import annotations

import copy
import dataclasses
import time
import uuid

import pytest

from federation.contract.instances import PowerState
from federation_hyperv.cim import Reference

MIB = 1 << 20
SECONDS = 3.0


def _multiply(lab, made, count):
    """So many more machines like this one on HV1, each with all that it has: put into the simulated host directly."""
    host = lab.cluster.host("HV1")
    repository = host.repository
    with lab.cluster.lock:
        machine = next(one for one in host.machines() if one["ElementName"] == made.name)
        settings = host.settings_of(machine)
        resources = host.resources(settings)
        features = [
            (port, one) for port in resources for one in repository.associated(port, "Msvm_EthernetPortSettingDataComponent")
        ]  # fmt: skip
        for number in range(count):
            changes = {
                str(machine["Name"]): str(uuid.uuid4()).upper(), made.id: str(uuid.uuid4()), made.name: f"vm-{number}",
            }  # fmt: skip
            changes |= {made.id.upper(): changes[made.id].upper()}
            ours, system = _like(settings, changes), _like(machine, changes)
            for one in (ours, system):
                repository.add(one)
            repository.tie("Msvm_SettingsDefineState", ManagedElement=system, SettingData=ours)
            for one in resources:
                part = repository.add(_like(one, changes))
                repository.tie("Msvm_VirtualSystemSettingDataComponent", GroupComponent=ours, PartComponent=part)
            for port, one in features:
                feature = repository.add(_like(one, changes))
                repository.tie(
                    "Msvm_EthernetPortSettingDataComponent", GroupComponent=_like(port, changes), PartComponent=feature
                )
            host.guests[str(system["Name"])] = copy.deepcopy(host.guests[str(machine["Name"])])


def _like(one, changes):
    def other(value):
        if isinstance(value, list):
            return [other(item) for item in value]
        if isinstance(value, Reference):
            return value
        for old, new in changes.items() if isinstance(value, str) else ():
            value = value.replace(old, new)
        return value

    made = one.copy()
    made.properties = {name: other(value) for name, value in one.properties.items()}
    return made


def _full_machine(lab):
    return lab.create(
        start=True, interfaces=[{"network": "external", "vlan": 7}, {"network": "external"}],
        data_disks=[{"size_bytes": 16 * MIB}], metadata={"owner": "somebody"}, guest={"user_data": "#cloud-config\n"},
        flavour={"vcpus": 1, "memory_bytes": 256 * MIB, "firmware": "uefi"},
    )  # fmt: skip


def _asked(lab, ask):
    before, began = lab.cluster.requests("HV1"), time.monotonic()
    answer = ask()
    return answer, lab.cluster.requests("HV1") - before, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("envelope_bytes", [8 << 20, 500 << 10], ids=["8192 kB", "500 kB, WinRM's default"])
def test_five_hundred_machines_are_listed_in_three_seconds_by_a_constant_number_of_requests(lab, envelope_bytes):
    for host in lab.cluster.hosts:
        host.facts = dataclasses.replace(host.facts, max_envelope_bytes=envelope_bytes)
    made = _full_machine(lab)
    counts = {}
    for more in (99, 400):
        _multiply(lab, made, more)
        lab.ask("list_instances", limit=1)  # what is asked once of a host has been asked
        page, requests, seconds = _asked(lab, lambda: lab.ask("list_instances", node="HV1", limit=1000))
        nodes, node_requests, node_seconds = _asked(lab, lambda: lab.ask("list_nodes"))
        counts[len(page.instances)] = requests, node_requests
        assert max(seconds, node_seconds) < SECONDS
    assert list(counts) == [100, 500]
    if envelope_bytes > 1 << 20:
        assert counts[100] == counts[500]
    else:
        # Each answer is cut where the envelope is full: some more pulls, and no more questions.
        assert counts[500][0] <= 4 * counts[100][0]
    (node,) = [one for one in nodes.nodes if one.name == "HV1"]
    assert (node.instances, node.vcpus_used) == (500, 500)
    assert len({one.id for one in page.instances}) == 500
    for one in (page.instances[0], page.instances[-1]):
        assert lab.ask("get_instance", instance=one.id) == one
    alike = page.instances[0]
    assert (alike.power_state, len(alike.disks), alike.owned) == (PowerState.RUNNING, 2, True)
    assert sorted((one.network, one.vlan or 0) for one in alike.interfaces) == [("external", 0), ("external", 7)]
    assert alike.metadata == {"owner": "somebody"}


def test_pages_hold_every_machine_once_in_the_order_of_their_ids(lab):
    _multiply(lab, _full_machine(lab), 24)
    seen, after = [], None
    while True:
        page = lab.ask("list_instances", limit=7, after=after)
        seen += [one.id for one in page.instances]
        after = page.next
        if after is None:
            break
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen) == 25
