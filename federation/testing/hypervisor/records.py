"""What the simulated hypervisor keeps of one machine."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from federation.contract.instances import DiskFacts, GuestFacts, Instance, InterfaceFacts, PowerState
from federation.testing.history.records import ABSENT, Seen

ACTIVE = frozenset({PowerState.RUNNING, PowerState.PAUSED})
"""States in which a machine occupies processors and memory."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk; ``kept`` ones are volumes, which outlive the machine.

    ``made_by`` is the id of the operation that made or attached it.  ``generation`` counts what the guest wrote and
    ``content`` is what somebody wrote last, so that anybody can see which version of a disk is there.
    """

    name: str
    size_bytes: int
    source: str = ""
    made_by: str = ""
    kept: bool = False
    volume: str | None = None
    pool: str | None = None
    root: bool = False
    read_only: bool = False
    generation: int = 0
    content: str = ""
    allocated_bytes: int | None = None
    """What it takes of the node's storage, if not all of its size."""


class DiskState(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot keeps of a disk."""

    disk: str
    generation: int
    content: str


class KeptSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot; ``created`` is seconds since the Unix epoch, ``memory_bytes`` what its memory takes of the storage."""

    id: str
    name: str
    created: float
    power_state: PowerState
    parent: str | None = None
    memory_bytes: int = 0
    quiesced: bool = False
    owned: bool = True
    disks: tuple[DiskState, ...] = ()


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
    keeps_devices: bool = False
    """Whether the guest never lets go of a volume or interface."""
    agent: bool = True
    """Whether an agent answers in the guest while it runs."""
    native_name: str = ""
    """What the hypervisor called it before it was adopted."""
    frozen_by: str | None = None
    """The operation that has frozen the guest's file systems."""
    snapshots: tuple[KeptSnapshot, ...] = ()
    current_snapshot: str | None = None
    reverted_by: str = ""
    """The operation that reverted it last."""
    incoming: tuple[str, str] | None = None
    """Node that is prepared to take it, and the operation that prepared it."""
    passwords: dict[str, str] = {}
    """User name: digest of the password."""
    password_sets: int = 0
    nmis: int = 0
    ran_seconds: float = 0.0
    """How long it had run since its last start when ``running_since`` began."""
    running_since: float | None = None
    """On the monotonic clock, None while it does not run."""

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

    def volume(self, pool: str, name: str) -> Disk | None:
        """The volume of that name, if it is attached."""
        return next((disk for disk in self.disks if (disk.pool, disk.volume) == (pool, name)), None)

    def snapshot(self, identifier: str) -> KeptSnapshot | None:
        """The snapshot of that id."""
        return next((kept for kept in self.snapshots if kept.id == identifier), None)

    @property
    def root(self) -> Disk | None:
        """The disk that it boots from."""
        return next((disk for disk in self.disks if disk.root), None)


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
    storage = sum(
        disk.size_bytes if disk.allocated_bytes is None else disk.allocated_bytes
        for disk in machine.disks
        if not disk.kept
    )
    storage += sum(kept.memory_bytes for kept in machine.snapshots)
    if machine.memory_file is not None:
        storage += machine.memory_bytes
    if not machine.active:
        return Usage(0, 0, storage, int(machine.defined))
    return Usage(machine.vcpus, machine.memory_bytes, storage, 1)


def seen(machine: Machine | None) -> Seen:
    """What the effect log says of it."""
    if machine is None or machine.empty:
        return ABSENT
    shown = Seen(
        memory_file=machine.memory_file is not None,
        disks=tuple(disk.name for disk in machine.disks),
        sizes=tuple(disk.size_bytes for disk in machine.disks),
        generations=tuple(disk.generation for disk in machine.disks),
        node=machine.node,
    )
    if not machine.defined:
        return shown
    return replace(
        shown,
        power_state=str(machine.power_state),
        vcpus=machine.vcpus,
        memory_bytes=machine.memory_bytes,
        boots=machine.boots,
        incoming=machine.incoming[0] if machine.incoming else "",
        interfaces=tuple(interface.mac for interface in machine.interfaces),
        snapshots=tuple((kept.id, str(kept.power_state)) for kept in machine.snapshots),
        current_snapshot=machine.current_snapshot or "",
        frozen=machine.frozen_by is not None,
        password_sets=machine.password_sets,
        nmis=machine.nmis,
    )


def disk_facts(disk: Disk) -> DiskFacts:
    """The contract's view of a disk."""
    return DiskFacts(name=disk.name, size_bytes=disk.size_bytes, source=disk.source, volume=disk.volume, pool=disk.pool)


def interface_facts(machine: Machine, interface: InterfaceFacts) -> InterfaceFacts:
    """The contract's view of an interface: a running guest has an address, which follows from the MAC."""
    if machine.power_state is not PowerState.RUNNING:
        return interface
    last = ".".join(str(int(part, 16)) for part in interface.mac.split(":")[3:])
    return msgspec.structs.replace(interface, addresses=(f"10.{last}",))


def facts(machine: Machine) -> Instance:
    """The contract's view of it."""
    running = machine.power_state is PowerState.RUNNING
    agent = GuestFacts(agent=True, hostname=machine.name, system="simulated") if machine.agent else GuestFacts()
    return Instance(
        id=machine.id,
        name=machine.name,
        node=machine.node,
        power_state=machine.power_state,
        vcpus=machine.vcpus,
        memory_bytes=machine.memory_bytes,
        owned=machine.owned,
        disks=tuple(disk_facts(disk) for disk in machine.disks),
        interfaces=tuple(interface_facts(machine, interface) for interface in machine.interfaces),
        metadata=machine.metadata,
        guest=agent if running else None,
        hot_resize=True,
    )
