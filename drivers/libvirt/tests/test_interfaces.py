"""Network interfaces added to a real guest and taken from it."""

from __future__ import annotations

import uuid

import pytest

from federation.contract import requests as r
from federation.contract.errors import AlreadyExists, InsufficientResources, InvalidRequest, NotSupported, TimedOut
from federation.contract.instances import Interface
from federation_libvirt import connection


@pytest.fixture
def wires(lab):
    """Two libvirt networks without an uplink."""
    native = lab.native()
    made = []
    for number, name in enumerate(("wire-a", "wire-b")):
        network = native.networkDefineXML(
            f"<network><name>{name}</name><bridge name='fh{uuid.uuid4().hex[:8]}{number}'/></network>"
        )
        network.create()
        made.append(network)
    yield ("wire-a", "wire-b")
    lab.clear()
    for network in made:
        network.destroy()
        network.undefine()


def attach(lab, instance: str, network: str, **more):
    request = r.AttachInterface(instance=instance, interface=Interface(network=network, **more))
    return lab.driver.attach_interface(lab.call(), request)


def detach(lab, instance: str, mac: str, **more):
    return lab.driver.detach_interface(lab.call(), r.DetachInterface(instance=instance, mac=mac, **more))


def macs(lab, instance: str) -> list[str]:
    return [interface.mac for interface in lab.get(instance).interfaces]


@pytest.mark.slow
def test_a_running_guest_gets_an_interface_and_lets_go_of_it(lab, wires):
    instance = lab.create().id
    lab.wait_ready(instance)
    mac = attach(lab, instance, wires[0]).mac
    lab.wait_for_line(instance, f"card eth0 {mac}")
    assert macs(lab, instance) == [mac]
    detach(lab, instance, mac)
    lab.wait_for_line(instance, "card eth0 gone")
    assert macs(lab, instance) == []
    inactive = lab.native().lookupByUUIDString(instance).XMLDesc(connection.XML_INACTIVE)
    assert mac not in inactive
    again = lab.call()
    lab.driver.detach_interface(again, r.DetachInterface(instance=instance, mac=mac))
    assert again.guards == 0


@pytest.mark.slow
def test_an_interface_of_a_stopped_instance_is_there_when_it_boots(lab, wires):
    instance = lab.create(start=False).id
    attach(lab, instance, wires[1], mac="52:54:00:12:34:56")
    assert lab.get(instance).interfaces[0].network == wires[1]
    lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
    lab.wait_ready(instance)
    assert "interface eth0 52:54:00:12:34:56" in lab.console(instance)


def test_the_derived_address_is_the_operations_own_and_a_repeat_finds_it(lab, wires):
    instance = lab.create(start=False).id
    call = lab.call()
    request = r.AttachInterface(instance=instance, interface=Interface(network=wires[0]))
    first = lab.driver.attach_interface(call, request)
    again = call.again()
    assert lab.another_driver().attach_interface(again, request) == first
    assert again.guards == 0
    assert attach(lab, instance, wires[0]).mac != first.mac
    assert len(macs(lab, instance)) == 2


def test_what_cannot_be_added_is_refused_and_leaves_no_trace(lab, wires):
    instance = lab.create(start=False).id
    mac = attach(lab, instance, wires[0]).mac
    before = lab.inventory()
    with pytest.raises(AlreadyExists, match="on wire-a"):
        attach(lab, instance, wires[1], mac=mac)
    with pytest.raises(InvalidRequest, match="'nowhere' is not there"):
        attach(lab, instance, "nowhere")
    with pytest.raises(NotSupported, match="vlan"):
        attach(lab, instance, wires[1], vlan=7)
    assert lab.inventory() == before
    for _ in range(7):
        attach(lab, instance, wires[0])
    with pytest.raises(InsufficientResources, match="at most 8"):
        attach(lab, instance, wires[0])


def test_a_create_with_a_vlan_is_refused_before_anything_is_made(lab, wires):
    before = lab.inventory()
    with pytest.raises(NotSupported, match="vlan"):
        lab.create(lab.spec(interfaces=(Interface(network=wires[0], vlan=7),)))
    assert lab.inventory() == before


@pytest.mark.slow
def test_a_paused_guest_cannot_let_go_and_keeps_its_interface(lab, wires):
    instance = lab.create().id
    lab.wait_ready(instance)
    mac = attach(lab, instance, wires[0]).mac
    lab.driver.pause(lab.call(), r.Pause(instance=instance))
    with pytest.raises(TimedOut, match="did not let go of the interface"):
        detach(lab, instance, mac, timeout_seconds=2)
    assert mac in lab.native().lookupByUUIDString(instance).XMLDesc(connection.XML_INACTIVE)
