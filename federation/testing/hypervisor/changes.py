"""Every changing call of the simulated hypervisor as a pure function: machine and arguments in, machine out.

Rules:

1. What may follow what is the table MOVES; anything else is refused and changes nothing, as a real hypervisor does.
2. A change that cannot be seen from outside (a marker, a power button that a guest may ignore) is in INVISIBLE.
3. An undo has a kind of its own where the change it takes back could be repeated by a retry, so that the effect log
   tells a repeat from an undo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from federation.contract.errors import AlreadyExists
from federation.contract.instances import InterfaceFacts, PowerState
from federation.testing.hypervisor.device_changes import DEVICE_CHANGES
from federation.testing.hypervisor.expecting import expect, without
from federation.testing.hypervisor.owner_changes import OWNER_CHANGES
from federation.testing.hypervisor.records import ACTIVE, Disk, Machine
from federation.testing.hypervisor.snapshot_changes import SNAPSHOT_CHANGES

Arguments = Mapping[str, Any]
"""Builtin types only: what JSON can carry."""

_S = PowerState
_RESIZABLE = frozenset({_S.STOPPED, _S.RUNNING})
MOVES: dict[str, tuple[frozenset[PowerState], PowerState]] = {
    "start": (frozenset({_S.STOPPED, _S.CRASHED}), _S.RUNNING),
    "stop": (frozenset({_S.RUNNING, _S.PAUSED, _S.CRASHED}), _S.STOPPED),
    "shut_down_guest": (frozenset({_S.RUNNING}), _S.STOPPED),
    "reset": (frozenset({_S.RUNNING}), _S.RUNNING),
    "restart_guest": (frozenset({_S.RUNNING}), _S.RUNNING),
    "pause": (frozenset({_S.RUNNING}), _S.PAUSED),
    "unpause": (frozenset({_S.PAUSED}), _S.RUNNING),
    "suspend": (frozenset({_S.RUNNING, _S.PAUSED}), _S.SUSPENDED),
    "restore": (frozenset({_S.SUSPENDED}), _S.RUNNING),
    "discard_memory": (frozenset({_S.SUSPENDED}), _S.STOPPED),
    "crash_guest": (frozenset({_S.RUNNING}), _S.CRASHED),
}
"""Kind of call: the power states from which it is legal, and the one it leads to."""

INVISIBLE = frozenset({"press_power_button", "ask_release", "mark", "unmark"})
_BOOTS = frozenset({"start", "reset", "restart_guest"})


def apply(kind: str, machine: Machine, arguments: Arguments) -> Machine:
    """The machine after the call; raises AlreadyExists or HypervisorRefused, KeyError on a kind that does not exist."""
    if kind in MOVES:
        return _move(kind, machine)
    return _OTHERS[kind](machine, arguments)


def kinds() -> frozenset[str]:
    """Every kind of changing call."""
    return frozenset(MOVES) | frozenset(_OTHERS)


def _move(kind: str, machine: Machine) -> Machine:
    allowed, end = MOVES[kind]
    expect(machine.defined, machine, f"{kind}: there is no such machine")
    expect(
        machine.power_state in allowed,
        machine,
        f"{kind}: the machine is {machine.power_state}, expected {' or '.join(sorted(allowed))}",
    )
    if kind == "suspend":
        expect(machine.memory_file is not None, machine, "suspend: the memory has not been saved")
    return msgspec.structs.replace(
        machine,
        power_state=end,
        boots=machine.boots + (kind in _BOOTS),
        disks=_written(machine) if kind in _BOOTS else machine.disks,
        frozen_by=machine.frozen_by if end in ACTIVE and kind not in _BOOTS else None,
        memory_file=None if kind in {"restore", "discard_memory"} else machine.memory_file,
    )


def _written(machine: Machine) -> tuple[Disk, ...]:
    """A guest that starts writes to every disk that it may write to."""
    return tuple(
        disk if disk.read_only else msgspec.structs.replace(disk, generation=disk.generation + 1)
        for disk in machine.disks
    )


def _allocate_disk(machine: Machine, arguments: Arguments) -> Machine:
    disk = Disk(**arguments)
    if machine.disk(disk.name) is not None:
        raise AlreadyExists(f"disk {disk.name} exists already", disk=disk.name, instance=machine.id)
    return msgspec.structs.replace(machine, disks=(*machine.disks, disk))


def _delete_disk(machine: Machine, arguments: Arguments) -> Machine:
    name = arguments["name"]
    expect(machine.disk(name) is not None, machine, f"delete_disk: there is no disk {name}")
    expect(not machine.defined, machine, f"delete_disk: {name} is in use")
    return msgspec.structs.replace(machine, disks=tuple(disk for disk in machine.disks if disk.name != name))


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of ``define``; ``volumes`` are attached and not made."""

    name: str
    vcpus: int
    memory_bytes: int
    firmware: str = "bios"
    topology: tuple[int, int, int] | None = None
    interfaces: tuple[InterfaceFacts, ...] = ()
    metadata: dict[str, str] = {}
    volumes: tuple[Disk, ...] = ()
    created_by: str = ""
    ignores_power_button: bool = False
    keeps_devices: bool = False
    agent: bool = True


def _define(machine: Machine, arguments: Arguments) -> Machine:
    if machine.defined:
        raise AlreadyExists(f"machine {machine.id} exists already", instance=machine.id, name=machine.name)
    given = msgspec.structs.asdict(msgspec.convert(arguments, Definition))
    disks = (*machine.disks, *given.pop("volumes"))
    return msgspec.structs.replace(machine, defined=True, disks=disks, **given)


def _undefine(machine: Machine, _arguments: Arguments) -> Machine:
    expect(machine.defined, machine, "undefine: there is no such machine")
    expect(not machine.active, machine, f"undefine: the machine is {machine.power_state}")
    disks = tuple(disk for disk in machine.disks if not disk.kept)
    return Machine(id=machine.id, node=machine.node, owned=machine.owned, disks=disks)


def _write_memory(machine: Machine, arguments: Arguments) -> Machine:
    expect(machine.active, machine, f"write_memory: the machine is {machine.power_state}")
    return msgspec.structs.replace(machine, memory_file=arguments["made_by"])


def _delete_memory(machine: Machine, _arguments: Arguments) -> Machine:
    expect(machine.power_state is not _S.SUSPENDED, machine, "delete_memory: the machine is suspended in it")
    return msgspec.structs.replace(machine, memory_file=None)


def _set_processors(machine: Machine, arguments: Arguments) -> Machine:
    expect(machine.power_state in _RESIZABLE, machine, f"set_processors: the machine is {machine.power_state}")
    notes = machine.notes | {"resize": arguments["note"]} if arguments["note"] else without(machine, "resize")
    topology = arguments["topology"]
    return msgspec.structs.replace(
        machine, vcpus=arguments["vcpus"], topology=topology and tuple(topology), notes=notes
    )


def _set_memory(machine: Machine, arguments: Arguments) -> Machine:
    expect(machine.power_state in _RESIZABLE, machine, f"set_memory: the machine is {machine.power_state}")
    return msgspec.structs.replace(machine, memory_bytes=arguments["memory_bytes"], notes=without(machine, "resize"))


def _press_power_button(machine: Machine, _arguments: Arguments) -> Machine:
    expect(machine.power_state is _S.RUNNING, machine, f"press_power_button: the machine is {machine.power_state}")
    return machine


def _mark(machine: Machine, arguments: Arguments) -> Machine:
    expect(machine.defined, machine, "mark: there is no such machine")
    return msgspec.structs.replace(machine, notes=machine.notes | {arguments["note"]: arguments["value"]})


def _unmark(machine: Machine, arguments: Arguments) -> Machine:
    return msgspec.structs.replace(machine, notes=without(machine, arguments["note"]))


_OTHERS: dict[str, Callable[[Machine, Arguments], Machine]] = {
    "allocate_disk": _allocate_disk,
    "delete_disk": _delete_disk,
    "define": _define,
    "undefine": _undefine,
    "write_memory": _write_memory,
    "delete_memory": _delete_memory,
    "set_processors": _set_processors,
    "restore_processors": _set_processors,
    "set_memory": _set_memory,
    "press_power_button": _press_power_button,
    "mark": _mark,
    "unmark": _unmark,
    **DEVICE_CHANGES,
    **SNAPSHOT_CHANGES,
    **OWNER_CHANGES,
}
