"""What the simulated hypervisor keeps of one machine."""

from __future__ import annotations

import msgspec

from federation.contract.instances import DiskFacts, Instance, InterfaceFacts, PowerState
from federation.testing.history.records import ABSENT, Seen

ACTIVE = frozenset({PowerState.RUNNING, PowerState.PAUSED})
"""States in which a machine occupies processors and memory."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk; ``kept`` ones (volumes) were there before the machine and outlive it; ``made_by`` is an operation's id."""

    name: str
    size_bytes: int
    source: str = ""
    made_by: str = ""
    kept: bool = False


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, or what is left of one (``defined`` false, disks there)."""

    id: str
    node: str
    defined: bool = False
    owned: bool = True
    name: str = ""
    power_state: PowerState = PowerState.STOPPED
    vcpus: int = 0
    memory_bytes: int = 0
    firmware: str = "bios"
    topology: tuple[int, int, int] | None = None
    boots: int = 0
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[InterfaceFacts, ...] = ()
    metadata: dict[str, str] = {}
    created_by: str = ""
    memory_file: str | None = None
    """The operation that saved the memory, while it lies in storage."""
    notes: dict[str, str] = {}
    """Markers that the driver writes for itself."""
    ignores_power_button: bool = False

    @property
    def active(self) -> bool:
        """Whether it occupies processors and memory."""
        return self.defined and self.power_state in ACTIVE

    @property
    def empty(self) -> bool:
        """Whether nothing of it is left."""
        return not (self.defined or self.disks or self.memory_file)

    def disk(self, name: str) -> Disk | None:
        """The disk of that name."""
        return next((disk for disk in self.disks if disk.name == name), None)


class Usage(msgspec.Struct, frozen=True):
    """What a machine takes from its node."""

    vcpus: int = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    instances: int = 0


def usage(machine: Machine | None) -> Usage:
    """Processors and memory while active, storage always."""
    if machine is None:
        return Usage()
    storage = sum(disk.size_bytes for disk in machine.disks if not disk.kept)
    if machine.memory_file is not None:
        storage += machine.memory_bytes
    if not machine.active:
        return Usage(0, 0, storage, int(machine.defined))
    return Usage(machine.vcpus, machine.memory_bytes, storage, 1)


def seen(machine: Machine | None) -> Seen:
    """What the effect log says of it."""
    if machine is None or machine.empty:
        return ABSENT
    return Seen(
        power_state=str(machine.power_state) if machine.defined else None,
        vcpus=machine.vcpus if machine.defined else 0,
        memory_bytes=machine.memory_bytes if machine.defined else 0,
        boots=machine.boots if machine.defined else 0,
        disks=tuple(disk.name for disk in machine.disks),
        memory_file=machine.memory_file is not None,
    )


def facts(machine: Machine) -> Instance:
    """The contract's view of it."""
    return Instance(
        id=machine.id,
        name=machine.name,
        node=machine.node,
        power_state=machine.power_state,
        vcpus=machine.vcpus,
        memory_bytes=machine.memory_bytes,
        owned=machine.owned,
        disks=tuple(DiskFacts(name=d.name, size_bytes=d.size_bytes, source=d.source) for d in machine.disks),
        interfaces=machine.interfaces,
        metadata=machine.metadata,
    )
