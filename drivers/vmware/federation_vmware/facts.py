"""What vSphere says of a machine, in the contract's words.  Pure: properties in, contract types out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from federation.contract.instances import DiskFacts, GuestFacts, Instance, InterfaceFacts, PowerState
from federation_vmware import names, ownership
from federation_vmware.ownership import Ownership

PATHS = (
    "name",
    "config.instanceUuid",
    "config.template",
    "config.extraConfig",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.numCoresPerSocket",
    "config.hardware.device",
    "config.cpuHotAddEnabled",
    "config.memoryHotAddEnabled",
    "config.hotPlugMemoryLimit",
    "config.hotPlugMemoryIncrementSize",
    "config.firmware",
    "config.changeVersion",
    "config.files.vmPathName",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.host",
    "summary.runtime.bootTime",
    "guest.toolsRunningStatus",
    "guest.hostName",
    "guest.guestFullName",
    "guest.net",
)
"""Everything that is read of a machine; leaves only."""

_POWER = {
    "poweredOn": PowerState.RUNNING,
    "poweredOff": PowerState.STOPPED,
    "suspended": PowerState.SUSPENDED,
}
_MIB = 1 << 20
_KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Look:
    """A machine as it was when it was looked at; ``reference`` names it to vCenter."""

    reference: Any
    found: Mapping[str, Any]

    @property
    def name(self) -> str:
        """VSphere's name of it, with its escapes resolved."""
        return unescaped(str(self.found.get("name", "")))

    @property
    def id(self) -> str:
        """Its instanceUuid, empty when vCenter does not know it (an inaccessible machine)."""
        return str(self.found.get("config.instanceUuid", "") or "").lower()

    @property
    def template(self) -> bool:
        """Whether it is a template, which cannot run."""
        return bool(self.found.get("config.template", False))

    @property
    def notes(self) -> dict[str, str]:
        """Its extraConfig."""
        pairs = self.found.get("config.extraConfig", ()) or ()
        return ownership.last_values((str(pair.key), str(pair.value)) for pair in pairs)

    @property
    def power_state(self) -> PowerState:
        """Unknown when its host does not answer or its files cannot be read."""
        if str(self.found.get("runtime.connectionState", "connected")) != "connected":
            return PowerState.UNKNOWN
        return _POWER.get(str(self.found.get("runtime.powerState", "")), PowerState.UNKNOWN)

    @property
    def host(self) -> str:
        """The id of the host that it is on, as vCenter has it."""
        return object_id(self.found.get("runtime.host"))

    @property
    def booted(self) -> str:
        """When it was powered on, empty when it was not."""
        at = self.found.get("summary.runtime.bootTime")
        return "" if at is None else str(at.isoformat())

    @property
    def change_version(self) -> str:
        """What a conditional change names; empty where the server has none (the simulator)."""
        return str(self.found.get("config.changeVersion", "") or "")

    @property
    def takes_processors(self) -> bool:
        """Whether its guest may be given more processors while it runs."""
        return bool(self.found.get("config.cpuHotAddEnabled", False))

    @property
    def takes_memory(self) -> bool:
        """Whether its guest may be given more memory while it runs."""
        return bool(self.found.get("config.memoryHotAddEnabled", False))

    @property
    def devices(self) -> list[Any]:
        """Its virtual hardware."""
        return list(self.found.get("config.hardware.device", ()) or ())

    @property
    def disk_files(self) -> set[str]:
        """The datastore paths of all files of its disks, where only the inventory's leaves were read."""
        layout = self.found.get("layout.disk", ()) or ()
        return {str(path) for one in layout for path in one.diskFile or ()}

    @property
    def directory(self) -> str:
        """The datastore path of its folder: ``[datastore] folder``."""
        return str(self.found.get("config.files.vmPathName", "")).rpartition("/")[0]

    @property
    def datastore(self) -> str:
        """The name of the datastore that its own files are on, empty when it is not known."""
        return names.split(str(self.found.get("config.files.vmPathName", "")))[0]

    @property
    def note(self) -> Ownership | None:
        """Our note, whoever's machine it is now."""
        return ownership.read(self.notes)

    def owner(self, cluster: str) -> Ownership | None:
        """Our note if the machine is ours."""
        note = self.note
        return note if note is not None and note.cluster == cluster and note.instance == self.id else None


def instance(look: Look, cluster: str, node: str, networks: Mapping[str, str]) -> Instance:
    """A machine in the contract's words; ``networks`` are names by port group key."""
    owner = look.owner(cluster)
    volumes = {one.path: one for one in owner.volumes} if owner else {}
    return Instance(
        id=look.id,
        name=(owner.name if owner and owner.name else look.name),
        node=node,
        power_state=look.power_state,
        vcpus=_number(look.found.get("config.hardware.numCPU")),
        memory_bytes=_times(look.found.get("config.hardware.memoryMB"), _MIB),
        owned=owner is not None,
        disks=tuple(disk(look, one, volumes) for one in disks(look.devices)),
        interfaces=tuple(_interface(look, one, networks) for one in cards(look.devices)),
        metadata=dict(owner.metadata) if owner else {},
        guest=_guest(look),
        hot_resize=look.takes_processors and look.takes_memory,
    )


def disks(devices: Iterable[Any]) -> list[Any]:
    """The disks, in the order of their places."""
    known = list(devices)
    found = [one for one in known if _kind(one) == "VirtualDisk"]
    return sorted(found, key=lambda one: (_bus(known, one), one.unitNumber or 0, one.key))


def cards(devices: Iterable[Any]) -> list[Any]:
    """The network cards, in the order of their keys."""
    return sorted((one for one in devices if getattr(one, "macAddress", None)), key=lambda one: int(one.key))


def disk_name(devices: Iterable[Any], one: Any) -> str:
    """Where a disk hangs: it stays while it is attached."""
    kind, bus = _bus(list(devices), one)
    return f"{kind}{bus}:{one.unitNumber or 0}"


def disk_path(one: Any) -> str:
    """The datastore path of the file behind a disk, empty when there is none."""
    return str(getattr(getattr(one, "backing", None), "fileName", "") or "")


def disk_bytes(one: Any) -> int | None:
    """A disk's size as the guest sees it."""
    exact = getattr(one, "capacityInBytes", None)
    size = int(exact) if exact else int(getattr(one, "capacityInKB", 0) or 0) * _KIB
    return size or None


def disk(look: Look, one: Any, volumes: Mapping[str, ownership.Volume]) -> DiskFacts:
    """A disk in the contract's words."""
    path = disk_path(one)
    volume = volumes.get(chain_base(one, volumes))
    return DiskFacts(
        name=disk_name(look.devices, one),
        size_bytes=disk_bytes(one),
        source=path,
        volume=volume.name if volume else None,
        pool=volume.pool if volume else None,
    )


def chain_base(one: Any, known: Mapping[str, object]) -> str:
    """The path by which a disk is known: its own, or below snapshots that of the file that it began as."""
    backing = getattr(one, "backing", None)
    while backing is not None:
        path = str(getattr(backing, "fileName", "") or "")
        if path in known:
            return path
        backing = getattr(backing, "parent", None)
    return disk_path(one)


def _interface(look: Look, card: Any, networks: Mapping[str, str]) -> InterfaceFacts:
    mac = str(card.macAddress).lower()
    reported = look.found.get("guest.net", ()) or ()
    addresses = [
        str(address)
        for nic in reported
        if str(nic.macAddress or "").lower() == mac
        for address in (nic.ipAddress or ())
    ]
    return InterfaceFacts(mac=mac, network=network_name(card, networks), addresses=tuple(addresses))


def network_name(card: Any, networks: Mapping[str, str]) -> str:
    """The network of a card: a standard port group by its name, a distributed one by its key."""
    backing = card.backing
    port = getattr(backing, "port", None)
    if port is not None:
        key = str(port.portgroupKey)
        return networks.get(key, key)
    return str(getattr(backing, "deviceName", "") or "")


def _guest(look: Look) -> GuestFacts | None:
    running = str(look.found.get("guest.toolsRunningStatus", "")) == "guestToolsRunning"
    hostname = str(look.found.get("guest.hostName", "") or "")
    system = str(look.found.get("guest.guestFullName", "") or "")
    return GuestFacts(agent=running, hostname=hostname, system=system) if running or hostname else None


def object_id(reference: Any) -> str:
    """VCenter's id of an object (``vm-42``), empty for none."""
    return "" if reference is None else str(reference._GetMoId())  # noqa: SLF001 - pyVmomi's name for it


def unescaped(name: str) -> str:
    """VSphere writes these three characters of a name as escapes (ManagedEntity.name)."""
    return name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%")


def _bus(devices: list[Any], one: Any) -> tuple[str, int]:
    for controller in devices:
        if controller.key == one.controllerKey:
            kind = _kind(controller)
            short = "ide" if "IDE" in kind else "sata" if "AHCI" in kind else "nvme" if "NVME" in kind else "scsi"
            return short, int(getattr(controller, "busNumber", 0) or 0)
    return "scsi", 0


def _kind(device: Any) -> str:
    return type(device).__name__.rsplit(".", 1)[-1]


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _times(value: Any, unit: int) -> int | None:
    return int(value) * unit if isinstance(value, int) else None
