"""Network interfaces added to an instance and taken from it, named by their MAC address.

As with volumes: the definition first when one is added and last when one is removed, the operation's id as alias.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial

from federation.contract.errors import AlreadyExists, InsufficientResources, NotSupported, OperationError
from federation.contract.instances import Interface, InterfaceFacts
from federation.contract.requests import AttachInterface, DetachInterface
from federation.contract.results import InterfaceDetached
from federation_libvirt import device_xml, devices, names
from federation_libvirt.attempt import Attempt
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine
from federation_libvirt.undoing import undone_on_error

MAX_INTERFACES = 8


def check_no_vlan(interfaces: tuple[Interface, ...]) -> None:
    """Raise NotSupported for a VLAN id: libvirt sets one only on Open vSwitch and SR-IOV networks, never on a bridge."""
    if any(interface.vlan is not None for interface in interfaces):
        raise NotSupported("an interface's vlan is not supported by this driver", capability="vlan")


def attach(fleet: Fleet, attempt: Attempt, request: AttachInterface) -> InterfaceFacts:
    """Add an interface; its MAC address is derived from the operation's id unless the request says one."""
    asked = request.interface
    check_no_vlan((asked,))
    machine = fleet.find(request.instance)
    mac = asked.mac or names.mac_address(attempt.operation, 0)
    devices.check_changeable(machine, machine.wait_idle(attempt), "attach_interface")
    definition, running = machine.definition(), _running(machine)
    defined, plugged = device_xml.interface_with(definition, mac), device_xml.interface_with(running, mac)
    for found in (defined, plugged):
        if found is not None and device_xml.network_of(found) != asked.network:
            raise AlreadyExists(f"{request.instance} has an interface {mac} on {device_xml.network_of(found)}", mac=mac)
    wanted = device_xml.interface(mac, asked.network, attempt.operation)
    if defined is None:
        _check(machine, definition, asked)
    with undone_on_error(attempt, partial(_undo, attempt, machine, mac)):
        if defined is None:
            devices.add(attempt, machine, wanted, live=False)
        if running is not None and plugged is None:
            devices.add(attempt, machine, wanted, live=True)
    return InterfaceFacts(mac=mac, network=asked.network)


def detach(fleet: Fleet, attempt: Attempt, request: DetachInterface) -> InterfaceDetached:
    """Take an interface away; a cancel that comes after the guest has let go comes too late."""
    machine = fleet.find(request.instance)
    devices.check_changeable(machine, machine.wait_idle(attempt), "detach_interface")
    try:
        _detach(attempt, machine, request)
    except OperationError as error:
        late = error is attempt.interruption and (attempt.changes or attempt.recovering)
        if not late or device_xml.interface_with(_running(machine), request.mac) is not None:
            raise
        _detach(attempt, machine, request)
    return InterfaceDetached()


def _detach(attempt: Attempt, machine: Machine, request: DetachInterface) -> None:
    if device_xml.interface_with(_running(machine), request.mac) is not None:
        find = partial(device_xml.interface_with, mac=request.mac)
        devices.unplug(attempt, machine, find, request.timeout_seconds)
    defined = device_xml.interface_with(machine.definition(), request.mac)
    if defined is not None:
        devices.remove(attempt, machine, defined, live=False)


def _check(machine: Machine, definition: ET.Element, asked: Interface) -> None:
    machine.host.check_networks((asked,))
    there = len(definition.findall("devices/interface"))
    if there >= MAX_INTERFACES:
        raise InsufficientResources(
            f"{machine.instance} has {there} interfaces, at most {MAX_INTERFACES} are allowed", limit=MAX_INTERFACES
        )


def _undo(attempt: Attempt, machine: Machine, mac: str, _cause: OperationError) -> None:
    defined = device_xml.interface_with(machine.definition(), mac)
    if defined is not None and device_xml.added_by(defined, attempt.operation):
        devices.remove(attempt, machine, defined, live=False)


def _running(machine: Machine) -> ET.Element | None:
    return machine.current() if machine.look().active else None
