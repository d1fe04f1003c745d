"""What the hypervisor can do with the snapshots of a machine; rules as in ``changes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from federation.contract.errors import AlreadyExists
from federation.contract.instances import PowerState
from federation.testing.hypervisor.expecting import expect
from federation.testing.hypervisor.records import Disk, DiskState, KeptSnapshot, Machine


def _freeze(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    expect(machine.power_state is PowerState.RUNNING, machine, f"freeze: the machine is {machine.power_state}")
    expect(machine.agent, machine, "freeze: no agent answers in the guest")
    return msgspec.structs.replace(machine, frozen_by=arguments["made_by"])


def _thaw(machine: Machine, _arguments: Mapping[str, Any]) -> Machine:
    return msgspec.structs.replace(machine, frozen_by=None)


def _take_snapshot(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _present(machine, "take_snapshot")
    identifier, memory = arguments["id"], arguments["memory"]
    if machine.snapshot(identifier) is not None:
        raise AlreadyExists(f"snapshot {identifier} exists already", snapshot=identifier, instance=machine.id)
    expect(machine.power_state is not PowerState.SUSPENDED, machine, "take_snapshot: the machine is suspended")
    expect(machine.active or not memory, machine, f"take_snapshot: memory of a machine that is {machine.power_state}")
    kept = KeptSnapshot(
        id=identifier,
        name=arguments["name"],
        created=arguments["created"],
        power_state=machine.power_state if memory else PowerState.STOPPED,
        parent=machine.current_snapshot,
        memory_bytes=machine.memory_bytes if memory else 0,
        quiesced=machine.frozen_by is not None,
        owned=arguments["owned"],
        disks=tuple(DiskState(disk.name, disk.generation, disk.content) for disk in machine.disks),
    )
    return msgspec.structs.replace(machine, snapshots=(*machine.snapshots, kept), current_snapshot=identifier)


def _revert_snapshot(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    _present(machine, "revert_snapshot")
    kept = machine.snapshot(arguments["id"])
    expect(kept is not None, machine, f"revert_snapshot: there is no snapshot {arguments['id']}")
    if kept is None:
        return machine
    old = {state.disk: state for state in kept.disks}
    return msgspec.structs.replace(
        machine,
        power_state=kept.power_state,
        memory_file=None,
        frozen_by=None,
        disks=tuple(_as_kept(disk, old.get(disk.name)) for disk in machine.disks),
        current_snapshot=kept.id,
        reverted_by=arguments["made_by"],
    )


def _as_kept(disk: Disk, old: DiskState | None) -> Disk:
    if old is None:
        return disk
    return msgspec.structs.replace(disk, generation=old.generation, content=old.content)


def _delete_snapshot(machine: Machine, arguments: Mapping[str, Any]) -> Machine:
    kept = machine.snapshot(arguments["id"])
    expect(kept is not None, machine, f"delete_snapshot: there is no snapshot {arguments['id']}")
    if kept is None:
        return machine
    left = tuple(
        msgspec.structs.replace(one, parent=kept.parent) if one.parent == kept.id else one
        for one in machine.snapshots
        if one.id != kept.id
    )
    current = kept.parent if machine.current_snapshot == kept.id else machine.current_snapshot
    return msgspec.structs.replace(machine, snapshots=left, current_snapshot=current)


def _present(machine: Machine, kind: str) -> None:
    expect(machine.defined, machine, f"{kind}: there is no such machine")


SNAPSHOT_CHANGES: dict[str, Callable[[Machine, Mapping[str, Any]], Machine]] = {
    "freeze": _freeze,
    "thaw": _thaw,
    "take_snapshot": _take_snapshot,
    "revert_snapshot": _revert_snapshot,
    "delete_snapshot": _delete_snapshot,
    "drop_snapshot": _delete_snapshot,
}
"""Kind of call: what it makes of the machine.  ``drop_snapshot`` is the undo of ``take_snapshot``."""
