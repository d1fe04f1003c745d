"""Machines that others made, taken over; and nodes that take no new ones."""

from __future__ import annotations

import re
import uuid

import libvirt
import pytest

from federation.contract import requests as r
from federation.contract.errors import AlreadyExists, HypervisorUnreachable, InvalidState, NotFound

MEBIBYTE = 1 << 20


def foreign_machine(lab, *, transient: bool = False) -> tuple[str, str]:
    """A running machine that virsh could have made, with a disk outside of our pool: its id and the disk's path."""
    identity, disk = str(uuid.uuid4()), lab.folders[0] / "volumes" / "foreign.img"
    disk.write_bytes(b"\0" * MEBIBYTE)
    log = lab.folders[0] / "console" / "foreign.log"
    log.unlink(missing_ok=True)
    xml = f"""<domain type='qemu'><name>somebodys</name><uuid>{identity}</uuid><memory unit='MiB'>128</memory>
      <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type><kernel>{lab.guest["kernel"]}</kernel>
      <initrd>{lab.guest["initrd"]}</initrd><cmdline>{lab.guest["cmdline"]}</cmdline></os>
      <features><acpi/><apic/></features><cpu mode='maximum'/>
      <devices><disk type='file'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
      </disk><serial type='pty'><log file='{log}'/></serial></devices></domain>"""
    native = lab.native()
    if transient:
        native.createXML(xml, 0)
    else:
        native.defineXML(xml).create()
    return identity, str(disk)


def listed(lab, *, foreign: bool = False) -> dict[str, bool]:
    page = lab.driver.list_instances(lab.call(), r.ListInstances(foreign=foreign))
    return {instance.id: instance.owned for instance in page.instances}


def beats(lab) -> list[float]:
    text = (lab.folders[0] / "console" / "foreign.log").read_text(errors="replace")
    return [float(found) for found in re.findall(r"alive \d+ uptime=(\S+)", text)]


@pytest.mark.slow
def test_a_foreign_machine_is_adopted_while_its_guest_runs_on_and_its_disks_outlive_it(lab):
    identity, disk = foreign_machine(lab)
    assert listed(lab) == {}
    assert listed(lab, foreign=True) == {identity: False}
    lab.wait_until(lambda: len(beats(lab)) > 1, "the foreign guest to beat")
    before = beats(lab)[-1]
    call = lab.call()
    request = r.Adopt(instance=identity, name="web-1", node=lab.nodes[0], metadata={"team": "blue"})
    adopted = lab.driver.adopt(call, request)
    assert (adopted.owned, adopted.name, adopted.metadata) == (True, "web-1", {"team": "blue"})
    assert [(d.name, d.size_bytes) for d in adopted.disks] == [("vda", MEBIBYTE)]
    assert listed(lab) == {identity: True}
    lab.wait_until(lambda: beats(lab)[-1] > before + 2, "the guest to run on")
    assert beats(lab) == sorted(beats(lab)), "the guest was restarted"
    again = lab.call()
    assert lab.another_driver().adopt(again, request) == adopted
    assert again.guards == 0
    with pytest.raises(AlreadyExists, match="web-1"):
        lab.driver.adopt(lab.call(), r.Adopt(instance=identity, name="web-2", node=lab.nodes[0]))
    lab.driver.reboot(lab.call(), r.Reboot(instance=identity))
    assert lab.get(identity).name == "web-1"
    lab.destroy(identity)
    assert listed(lab, foreign=True) == {}
    assert (lab.folders[0] / "volumes" / "foreign.img").exists(), f"{disk} was not ours to delete"


def test_what_cannot_be_adopted_is_refused_and_left_as_it_is(lab):
    identity, _ = foreign_machine(lab, transient=True)
    with pytest.raises(InvalidState, match="transient"):
        lab.driver.adopt(lab.call(), r.Adopt(instance=identity, name="web-1", node=lab.nodes[0]))
    with pytest.raises(NotFound, match=lab.nodes[1]):
        lab.driver.adopt(lab.call(), r.Adopt(instance=identity, name="web-1", node=lab.nodes[1]))
    other = lab.create(start=False)
    lab.native().lookupByUUIDString(identity).destroy()
    identity, _ = foreign_machine(lab)
    with pytest.raises(AlreadyExists, match=other.name):
        lab.driver.adopt(lab.call(), r.Adopt(instance=identity, name=other.name, node=lab.nodes[0]))
    assert listed(lab, foreign=True) == {identity: False, other.id: True}


def test_an_adoption_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab):
    for n in (1, 2):
        identity, _ = foreign_machine(lab)
        request, call = r.Adopt(instance=identity, name="web-1", node=lab.nodes[0]), lab.call(crash_at=n)
        lab.killed("adopt", call, request)
        result = lab.another_driver().adopt(call.again(), request)
        assert (result.owned, result.name) == (True, "web-1")
        domain = lab.native().lookupByUUIDString(identity)
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            assert call.operation in domain.XMLDesc(flags)
        lab.clear()


def test_a_node_in_maintenance_takes_no_new_instances_and_keeps_what_it_has(lab):
    kept, node = lab.create(), lab.nodes[0]
    request = r.SetNodeMaintenance(node=node, enabled=True)
    found = lab.driver.set_node_maintenance(lab.call(), request)
    assert (found.name, found.maintenance, found.accepts_instances) == (node, True, False)
    repeated = lab.call()
    assert lab.another_driver().set_node_maintenance(repeated, request).maintenance
    assert repeated.guards == 0
    shown = lab.another_driver().list_nodes(lab.call(), r.ListNodes()).nodes
    assert [(one.name, one.maintenance, one.accepts_instances) for one in shown] == [
        (node, True, False),
        (lab.nodes[1], False, True),
    ]
    before = lab.inventory()
    with pytest.raises(InvalidState, match="maintenance"):
        lab.create()
    assert lab.inventory() == before
    lab.driver.reboot(lab.call(), r.Reboot(instance=kept.id))
    ended = lab.driver.set_node_maintenance(lab.call(), r.SetNodeMaintenance(node=node, enabled=False))
    assert (ended.maintenance, ended.accepts_instances) == (False, True)
    lab.create()


@pytest.mark.parametrize("enabled", [True, False])
def test_maintenance_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab, enabled):
    lab.driver.set_node_maintenance(lab.call(), r.SetNodeMaintenance(node=lab.nodes[0], enabled=not enabled))
    request = r.SetNodeMaintenance(node=lab.nodes[0], enabled=enabled)
    for n in (1, 2):
        call = lab.call(crash_at=n)
        lab.killed("set_node_maintenance", call, request)
        assert lab.another_driver().set_node_maintenance(call.again(), request).maintenance is enabled
    with pytest.raises(NotFound, match="nowhere"):
        lab.driver.set_node_maintenance(lab.call(), r.SetNodeMaintenance(node="nowhere", enabled=enabled))


@pytest.mark.slow
def test_a_node_that_does_not_answer_is_named_and_the_others_instances_are_listed(lab):
    here, there = lab.create(start=False), lab.create(lab.spec(node=lab.nodes[1]), start=False)
    driver = lab.another_driver()
    whole = driver.list_instances(lab.call(), r.ListInstances())
    assert ({i.id for i in whole.instances}, whole.unreachable) == ({here.id, there.id}, ())
    lab.hosts.kill(1)
    part = driver.list_instances(lab.call(), r.ListInstances())
    assert ([i.id for i in part.instances], part.unreachable) == ([here.id], (lab.nodes[1],))
    with pytest.raises(HypervisorUnreachable, match=lab.nodes[1]):
        driver.list_instances(lab.call(), r.ListInstances(node=lab.nodes[1]))
    lab.hosts.start_node(1)
    assert driver.list_instances(lab.call(), r.ListInstances()).unreachable == ()
