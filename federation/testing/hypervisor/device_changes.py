"""What the hypervisor can do to the volumes and interfaces of a machine; rules as in ``changes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from federation.contract.errors import AlreadyExists
from federation.contract.instances import InterfaceFacts, PowerState
from federation.testing.hypervisor.expecting import expect, without
from federation.testing.hypervisor.records import Disk, Machine

_PLUGGABLE = frozenset({PowerState.RUNNING, PowerState.STOPPED})


def _attach_volume(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _pluggable(machine, "attach_volume")
    disk = msgspec.convert(arguments["disk"], Disk)
    if machine.disk(disk.name) is not None:
        raise AlreadyExists(f"disk {disk.name} is attached already", disk=disk.name, instance=machine.id)
    index = arguments.get("index", len(machine.disks))
    disks = (*machine.disks[:index], disk, *machine.disks[index:])
    return msgspec.structs.replace(machine, disks=disks, notes=without(machine, "detach"))


def _detach_volume(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _pluggable(machine, "detach_volume")
    name, note = arguments["name"], arguments["note"]
    disk = machine.disk(name)
    expect(disk is not None and disk.kept, machine, f"detach_volume: there is no volume {name}")
    notes = machine.notes | {"detach": note} if note else without(machine, "detach")
    return msgspec.structs.replace(machine, disks=tuple(d for d in machine.disks if d.name != name), notes=notes)


def _extend_volume(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _pluggable(machine, "extend_volume")
    name, size = arguments["name"], arguments["size_bytes"]
    disk = machine.disk(name)
    there = disk.size_bytes if disk is not None and disk.kept else None
    expect(there is not None, machine, f"extend_volume: there is no volume {name}")
    expect(size >= (there or 0), machine, f"extend_volume: {name} has {there} bytes and cannot shrink to {size}")
    disks = tuple(msgspec.structs.replace(d, size_bytes=size) if d.name == name else d for d in machine.disks)
    return msgspec.structs.replace(machine, disks=disks)


def _attach_interface(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _pluggable(machine, "attach_interface")
    interface = msgspec.convert(arguments, InterfaceFacts)
    if any(there.mac == interface.mac for there in machine.interfaces):
        raise AlreadyExists(f"interface {interface.mac} exists already", mac=interface.mac, instance=machine.id)
    return msgspec.structs.replace(machine, interfaces=(*machine.interfaces, interface))


def _detach_interface(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _pluggable(machine, "detach_interface")
    mac = arguments["mac"]
    left = tuple(interface for interface in machine.interfaces if interface.mac != mac)
    expect(len(left) < len(machine.interfaces), machine, f"detach_interface: there is no interface {mac}")
    return msgspec.structs.replace(machine, interfaces=left)


def _ask_release(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    expect(machine.power_state is PowerState.RUNNING, machine, f"ask_release: the machine is {machine.power_state}")
    return machine


def _drop_detach_note(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    return msgspec.structs.replace(machine, notes=without(machine, "detach"))


def _pluggable(machine: Machine, kind: str) -> None:
    expect(machine.defined, machine, f"{kind}: there is no such machine")
    expect(machine.power_state in _PLUGGABLE, machine, f"{kind}: the machine is {machine.power_state}")


DEVICE_CHANGES: dict[str, Callable[[Machine, Mapping[str, Any]], Machine]] = {
    "attach_volume": _attach_volume,
    "reattach_volume": _attach_volume,
    "detach_volume": _detach_volume,
    "extend_volume": _extend_volume,
    "attach_interface": _attach_interface,
    "detach_interface": _detach_interface,
    "ask_release": _ask_release,
    "delete_volume": _drop_detach_note,
}
"""Kind of call: what it makes of the machine; what it makes of the volume is in ``storage``."""
