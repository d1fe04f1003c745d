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

from federation.contract.errors import AlreadyExists, HypervisorRefused
from federation.contract.instances import InterfaceFacts, PowerState
from federation.testing.hypervisor.records import Disk, Machine

Arguments = Mapping[str, Any]
"""Builtin types only: what JSON can carry."""

_S = PowerState
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

INVISIBLE = frozenset({"press_power_button", "mark", "unmark"})
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
    _expect(machine.defined, machine, f"{kind}: there is no such machine")
    _expect(
        machine.power_state in allowed,
        machine,
        f"{kind}: the machine is {machine.power_state}, expected {' or '.join(sorted(allowed))}",
    )
    if kind == "suspend":
        _expect(machine.memory_file is not None, machine, "suspend: the memory has not been saved")
    return msgspec.structs.replace(
        machine,
        power_state=end,
        boots=machine.boots + (kind in _BOOTS),
        memory_file=None if kind in {"restore", "discard_memory"} else machine.memory_file,
    )


def _allocate_disk(machine: Machine, arguments: Arguments) -> Machine:
    disk = Disk(**arguments)
    if machine.disk(disk.name) is not None:
        raise AlreadyExists(f"disk {disk.name} exists already", disk=disk.name, instance=machine.id)
    return msgspec.structs.replace(machine, disks=(*machine.disks, disk))


def _delete_disk(machine: Machine, arguments: Arguments) -> Machine:
    name = arguments["name"]
    _expect(machine.disk(name) is not None, machine, f"delete_disk: there is no disk {name}")
    _expect(not machine.defined, machine, f"delete_disk: {name} is in use")
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


def _define(machine: Machine, arguments: Arguments) -> Machine:
    if machine.defined:
        raise AlreadyExists(f"machine {machine.id} exists already", instance=machine.id, name=machine.name)
    given = msgspec.structs.asdict(msgspec.convert(arguments, Definition))
    disks = (*machine.disks, *given.pop("volumes"))
    return msgspec.structs.replace(machine, defined=True, disks=disks, **given)


def _undefine(machine: Machine, _arguments: Arguments) -> Machine:
    _expect(machine.defined, machine, "undefine: there is no such machine")
    _expect(not machine.active, machine, f"undefine: the machine is {machine.power_state}")
    disks = tuple(disk for disk in machine.disks if not disk.kept)
    return Machine(id=machine.id, node=machine.node, owned=machine.owned, disks=disks)


def _write_memory(machine: Machine, arguments: Arguments) -> Machine:
    _expect(machine.active, machine, f"write_memory: the machine is {machine.power_state}")
    return msgspec.structs.replace(machine, memory_file=arguments["made_by"])


def _delete_memory(machine: Machine, _arguments: Arguments) -> Machine:
    _expect(machine.power_state is not _S.SUSPENDED, machine, "delete_memory: the machine is suspended in it")
    return msgspec.structs.replace(machine, memory_file=None)


def _set_processors(machine: Machine, arguments: Arguments) -> Machine:
    _expect(machine.power_state is _S.STOPPED, machine, f"set_processors: the machine is {machine.power_state}")
    notes = machine.notes | {"resize": arguments["note"]} if arguments["note"] else _without(machine, "resize")
    topology = arguments["topology"]
    return msgspec.structs.replace(
        machine, vcpus=arguments["vcpus"], topology=topology and tuple(topology), notes=notes
    )


def _set_memory(machine: Machine, arguments: Arguments) -> Machine:
    _expect(machine.power_state is _S.STOPPED, machine, f"set_memory: the machine is {machine.power_state}")
    return msgspec.structs.replace(machine, memory_bytes=arguments["memory_bytes"], notes=_without(machine, "resize"))


def _press_power_button(machine: Machine, _arguments: Arguments) -> Machine:
    _expect(machine.power_state is _S.RUNNING, machine, f"press_power_button: the machine is {machine.power_state}")
    return machine


def _mark(machine: Machine, arguments: Arguments) -> Machine:
    _expect(machine.defined, machine, "mark: there is no such machine")
    return msgspec.structs.replace(machine, notes=machine.notes | {arguments["note"]: arguments["value"]})


def _unmark(machine: Machine, arguments: Arguments) -> Machine:
    return msgspec.structs.replace(machine, notes=_without(machine, arguments["note"]))


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
}


def _without(machine: Machine, note: str) -> dict[str, str]:
    return {name: value for name, value in machine.notes.items() if name != note}


def _expect(condition: object, machine: Machine, message: str) -> None:
    if not condition:
        raise HypervisorRefused(message, instance=machine.id, power_state=machine.power_state)
