"""What Hyper-V shows of its machines, in the contract's types.  Pure: property maps in, facts out.

:class:`Parts` is what one look at a host has brought of one machine: the objects of each class.  One machine and the whole
inventory are mapped by the same functions, so all reads agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from federation.contract.instances import DiskFacts, Firmware, Instance, InterfaceFacts, PowerState
from federation_hyperv import msvm, names, notes
from federation_hyperv.notes import Note

Properties = Mapping[str, Any]
Pools = Mapping[str, str]
"""Folder by pool name; the empty name is the driver's own folder."""


@dataclass(slots=True)
class Parts:
    """The objects of one machine."""

    settings: Properties = field(default_factory=dict)
    system: Properties = field(default_factory=dict)
    state: int | None = None
    processor: Properties = field(default_factory=dict)
    memory: Properties = field(default_factory=dict)
    resources: list[Properties] = field(default_factory=list)
    storage: list[Properties] = field(default_factory=list)
    ports: list[Properties] = field(default_factory=list)
    connections: list[Properties] = field(default_factory=list)
    vlans: list[Properties] = field(default_factory=list)
    _read: tuple[object, Note | None] = (None, None)

    @property
    def note(self) -> Note | None:
        """What we have written on it, of whichever cluster."""
        text = self.settings.get("Notes")
        if self._read[0] is not text:
            self._read = text, notes.read(text)
        return self._read[1]

    @property
    def guid(self) -> str:
        """Hyper-V's id of the machine, upper case."""
        return str(self.settings.get("VirtualSystemIdentifier") or "").upper()


@dataclass(frozen=True, slots=True)
class Slot:
    """A drive of a machine: its name (``scsi0.1``), the ids of drive and medium, and the file in it."""

    name: str
    controller: str
    number: int
    drive: str
    dvd: bool
    medium: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Controller:
    """A disk controller: its name (``scsi0``) and its InstanceID."""

    name: str
    identity: str


def instance_of(parts: Parts, cluster: str) -> str:
    """The instance's id: ours as create gave it, of others what Hyper-V calls them."""
    note = parts.note
    if note is not None and is_owned(parts, note, cluster):
        return note.instance
    return names.guid(parts.guid) or parts.guid.lower()


def is_owned(parts: Parts, note: Note | None, cluster: str) -> bool:
    """Rule 2 of ``notes``."""
    if note is None or note.cluster != cluster:
        return False
    own = {names.guid(parts.guid), names.guid(str(parts.settings.get("BIOSGUID") or ""))}
    return note.instance in own


def instance(parts: Parts, node: str, cluster: str, pools: Pools, switches: Mapping[str, str]) -> Instance:
    """The machine as the contract shows it; ``switches`` are names by id."""
    note = parts.note
    owned = is_owned(parts, note, cluster)
    ours = note if owned else None
    vcpus, memory_bytes = size(parts)
    return Instance(
        id=instance_of(parts, cluster),
        name=(ours.name if ours is not None and ours.name else str(parts.settings.get("ElementName") or "")),
        node=node,
        power_state=msvm.power_state(parts.state),
        vcpus=vcpus,
        memory_bytes=memory_bytes,
        owned=owned,
        disks=disks(parts, pools, ours),
        interfaces=interfaces(parts, switches),
        metadata={} if ours is None else ours.metadata,
    )


def power_state(parts: Parts) -> PowerState:
    """The machine's state."""
    return msvm.power_state(parts.state)


def size(parts: Parts) -> tuple[int | None, int | None]:
    """Processors, and bytes of memory: of dynamic memory the most that the machine gets."""
    dynamic = bool(parts.memory.get("DynamicMemoryEnabled"))
    return _number(parts.processor.get("VirtualQuantity")), _bytes(
        parts.memory.get("Limit" if dynamic else "VirtualQuantity")
    )


def firmware(parts: Parts) -> Firmware:
    """BIOS for machines of generation 1, UEFI for those of generation 2."""
    second = parts.settings.get("VirtualSystemSubType") == msvm.GENERATION_2
    return Firmware.UEFI if second else Firmware.BIOS


def disks(parts: Parts, pools: Pools, note: Note | None) -> tuple[DiskFacts, ...]:
    """Every drive of a disk with a file in it, in the order of controllers and slots; media of DVD drives are no disks."""
    return tuple(disk(slot, pools, note) for slot in slots(parts) if slot.file and not slot.dvd)


def disk(slot: Slot, pools: Pools, note: Note | None) -> DiskFacts:
    """One disk; its size is what we have noted, which costs no request for each disk."""
    pool, volume = volume_in(slot.file, pools)
    return DiskFacts(
        name=slot.name,
        size_bytes=None if note is None else note.disks.get(slot.name),
        source=slot.file,
        volume=volume,
        pool=pool,
    )


def volume_in(file: str, pools: Pools) -> tuple[str | None, str | None]:
    """Pool and volume of a file; None when it lies in no pool or is one that the driver names."""
    folder, name = names.split(file)
    for pool, path in pools.items():
        if names.same(folder, path):
            volume = names.volume_name(name)
            return (None, None) if volume is None else (pool, volume)
    return None, None


def controllers(parts: Parts) -> list[Controller]:
    """The disk controllers, IDE before SCSI: IDE by Hyper-V's own number, SCSI in the order of their ids."""
    ide = [one for one in parts.resources if one.get("ResourceSubType") == msvm.IDE_CONTROLLER]
    scsi = [one for one in parts.resources if one.get("ResourceSubType") == msvm.SCSI_CONTROLLER]
    found = []
    for kind, members in (("ide", ide), ("scsi", scsi)):
        ordered = sorted(members, key=lambda one: (str(one.get("Address") or ""), _identity(one)))
        found += [Controller(f"{kind}{number}", _identity(one)) for number, one in enumerate(ordered)]
    return found


def slots(parts: Parts) -> list[Slot]:
    """The drives, in the order of controllers and slots, each with what is in it."""
    media = {msvm.instance_id(str(one.get("Parent") or "")): one for one in parts.storage}
    by_identity = {one.identity: one.name for one in controllers(parts)}
    order = {name: number for number, name in enumerate(by_identity.values())}
    found = []
    for one in parts.resources:
        kind = one.get("ResourceSubType")
        if kind not in {msvm.DISK_DRIVE, msvm.DVD_DRIVE}:
            continue
        controller = msvm.instance_id(str(one.get("Parent") or ""))
        number = _number(one.get("AddressOnParent")) or 0
        medium = media.get(_identity(one))
        files = [] if medium is None else list(medium.get("HostResource") or ())
        found.append(
            Slot(
                name=f"{by_identity.get(controller, 'unknown')}.{number}",
                controller=controller,
                number=number,
                drive=_identity(one),
                dvd=kind == msvm.DVD_DRIVE,
                medium="" if medium is None else _identity(medium),
                file=str(files[0]) if files else "",
            )
        )
    return sorted(found, key=lambda slot: (order.get(by_identity.get(slot.controller, ""), 99), slot.number))


def free_slots(parts: Parts, controller: Controller, size: int) -> Iterable[int]:
    """Numbers of the slots that have no drive."""
    taken = {slot.number for slot in slots(parts) if slot.controller == controller.identity}
    return (number for number in range(size) if number not in taken)


def interfaces(parts: Parts, switches: Mapping[str, str]) -> tuple[InterfaceFacts, ...]:
    """Every network adapter, in the order of their names and ids."""
    ordered = sorted(parts.ports, key=lambda one: (str(one.get("ElementName") or ""), _identity(one)))
    return tuple(interface(parts, one, switches) for one in ordered)


def interface(parts: Parts, port: Properties, switches: Mapping[str, str]) -> InterfaceFacts:
    """One network adapter with the switch it is connected to."""
    connection = connection_of(parts, port)
    target = "" if connection is None else str(next(iter(connection.get("HostResource") or ()), ""))
    return InterfaceFacts(
        mac=msvm.mac_of(str(port.get("Address") or "")),
        network=switches.get(msvm.name_in(target).upper(), ""),
        vlan=None if connection is None else _vlan(parts, connection),
    )


def connection_of(parts: Parts, port: Properties) -> Properties | None:
    """The connection of an adapter; None when its cable is out."""
    for one in parts.connections:
        if msvm.instance_id(str(one.get("Parent") or "")) == _identity(port):
            return one
    return None


def _vlan(parts: Parts, connection: Properties) -> int | None:
    prefix = _identity(connection) + "\\"
    for one in parts.vlans:
        if _identity(one).startswith(prefix):
            return _number(one.get("AccessVlanId")) or None
    return None


def _identity(one: Properties) -> str:
    return str(one.get("InstanceID") or "")


def _number(value: object) -> int | None:
    return None if value is None or value == "" else int(str(value))


def _bytes(mebibytes: object) -> int | None:
    number = _number(mebibytes)
    return None if number is None else number * msvm.MIB
