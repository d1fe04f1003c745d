"""What libvirt says of a domain as the contract's Instance.  Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import msgspec

from federation.contract.instances import DiskFacts, GuestFacts, Instance, InterfaceFacts, PowerState
from federation_libvirt import device_xml, domain_xml, names, ownership

_UNITS = {
    "b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20,
    "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40, "TiB": 1 << 40,
}  # fmt: skip
"""https://libvirt.org/formatdomain.html#memory-allocation; without a unit it is KiB."""

_POWER = {
    "nostate": PowerState.RUNNING,
    "running": PowerState.RUNNING,
    "blocked": PowerState.RUNNING,
    "paused": PowerState.PAUSED,
    # The guest has shut down and QEMU is about to end; the next look sees it stopped.
    "shutdown": PowerState.RUNNING,
    "crashed": PowerState.CRASHED,
    # The guest sleeps (ACPI S3): memory kept, processors halted.
    "pmsuspended": PowerState.PAUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A domain at one moment.

    ``state`` is libvirt's word; ``active`` whether QEMU runs; ``saved`` whether a saved memory lies ready; ``busy`` names
    what is going on in the hypervisor right now, empty when nothing is.  Of a domain that does not run, ``never_started``
    is true when libvirt knows of no start that went well, ``ended_on_purpose`` when its guest or somebody stopped it
    (and not a crash, or a libvirtd that died while it started).
    """

    state: str
    active: bool
    saved: bool = False
    busy: str = ""
    guest_crashed: bool = False
    never_started: bool = False
    ended_on_purpose: bool = False

    @property
    def power_state(self) -> PowerState:
        """The contract's word."""
        if not self.active:
            return PowerState.SUSPENDED if self.saved else PowerState.STOPPED
        return PowerState.CRASHED if self.guest_crashed else _POWER.get(self.state, PowerState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """A volume that is connected to a domain: its pool, its name, and the size of its disk in bytes when it is known."""

    pool: str
    name: str
    size_bytes: int | None = None


def instance(
    domain: ET.Element, look: Look, node: str, cluster: str, volumes: Mapping[str, VolumeFacts] = MappingProxyType({})
) -> Instance:
    """The facts; the domain is owned when it carries our metadata for this very cluster and its own id."""
    identity = domain.findtext("uuid", "")
    owner = ownership.read(domain)
    owned = owner is not None and owner.cluster == cluster and owner.instance == identity
    sizes = owner.disks if owner is not None and owned else {}
    return Instance(
        id=identity,
        name=(owner.name if owner is not None and owned else "") or domain.findtext("name", ""),
        node=node,
        power_state=look.power_state,
        vcpus=vcpus(domain),
        memory_bytes=memory_bytes(domain),
        owned=owned,
        disks=tuple(_disks(domain, sizes, volumes)),
        interfaces=tuple(_interfaces(domain)),
        metadata=owner.metadata if owner is not None and owned else {},
        guest=None
        if agent_state(domain) is None or not look.active
        else GuestFacts(agent=agent_state(domain) == "connected"),
    )


def with_addresses(found: Instance, answers: Iterable[Mapping[str, Any]]) -> Instance:
    """The facts with the IP addresses of each interface; ``answers`` are what virDomainInterfaceAddresses gave."""
    known: dict[str, list[str]] = {}
    for answer in answers:
        for device in answer.values():
            addresses = known.setdefault((device.get("hwaddr") or "").lower(), [])
            addresses += [a["addr"] for a in device.get("addrs") or () if a["addr"] not in addresses]
    interfaces = tuple(
        msgspec.structs.replace(interface, addresses=tuple(known.get(interface.mac, ())))
        for interface in found.interfaces
    )
    return msgspec.structs.replace(found, interfaces=interfaces)


def agent_state(domain: ET.Element) -> str | None:
    """What the channel of the guest's agent is: ``connected`` when an agent has opened it, None without a channel."""
    for target in domain.iterfind("devices/channel/target"):
        if target.get("name") == domain_xml.AGENT_CHANNEL:
            return target.get("state", "disconnected")
    return None


def devices_by_mac(domain: ET.Element) -> dict[str, str]:
    """MAC addresses of a running domain's interfaces by the node's device."""
    found = {}
    for interface in domain.iterfind("devices/interface"):
        mac, target = interface.find("mac"), interface.find("target")
        if mac is not None and target is not None:
            found[target.get("dev", "")] = mac.get("address", "").lower()
    return found


def disk_names(domain: ET.Element) -> list[str]:
    """Target devices of the disks that ``DiskFacts`` shows."""
    return [disk.name for disk in _disks(domain, {}, {})]


def memory_bytes(domain: ET.Element) -> int:
    """The domain's memory."""
    memory = domain.find("memory")
    if memory is None or not memory.text:
        return 0
    return int(memory.text) * _UNITS[memory.get("unit", "KiB")]


def vcpus(domain: ET.Element) -> int:
    """The domain's processors, those that are plugged in."""
    node = domain.find("vcpu")
    return 0 if node is None or not node.text else int(node.get("current", node.text))


def flavour(domain: ET.Element) -> tuple[int, int, tuple[int, int, int] | None]:
    """Processors, bytes of memory, and sockets, cores and threads when the domain says them."""
    shape = domain.find("cpu/topology")
    topology = None
    if shape is not None:
        topology = (int(shape.get("sockets", 1)), int(shape.get("cores", 1)), int(shape.get("threads", 1)))
    return vcpus(domain), memory_bytes(domain), topology


def volume_of(identity: str, disk: ET.Element, folders: Mapping[str, str]) -> VolumeFacts | None:
    """The volume behind a disk; None for the instance's own disks and for what lies outside of the pools.

    ``folders`` are names of pools by directory.  libvirt is given paths, and a path in a pool's directory is that
    volume.
    """
    path = PurePosixPath(device_xml.path_of(disk))
    pool = folders.get(str(path.parent))
    if pool is None or names.belongs_to(identity, path.name) or names.reserved(path.name):
        return None
    return VolumeFacts(pool=pool, name=path.name)


def _disks(domain: ET.Element, sizes: Mapping[str, int], volumes: Mapping[str, VolumeFacts]) -> list[DiskFacts]:
    """Disks that hold data: volumes, and what is not a medium that can only be read (such as the cloud-init one)."""
    found = []
    for disk in domain.iterfind("devices/disk"):
        name = device_xml.target_of(disk)
        volume = volumes.get(name)
        if volume is not None:
            found.append(disk_facts(name, volume))
        elif disk.get("device", "disk") == "disk" and disk.find("readonly") is None:
            found.append(DiskFacts(name=name, size_bytes=sizes.get(name), source=_source(disk)))
    return found


def disk_facts(target: str, volume: VolumeFacts) -> DiskFacts:
    """A connected volume as the contract shows it."""
    return DiskFacts(
        name=target, size_bytes=volume.size_bytes, source=volume.name, volume=volume.name, pool=volume.pool
    )


def _source(disk: ET.Element) -> str:
    source = disk.find("source")
    if source is None:
        return ""
    for attribute in ("volume", "name", "dev"):
        if source.get(attribute):
            return str(source.get(attribute))
    return PurePosixPath(source.get("file", "")).name


def _interfaces(domain: ET.Element) -> list[InterfaceFacts]:
    found = []
    for interface in domain.iterfind("devices/interface"):
        mac, source = interface.find("mac"), interface.find("source")
        network = "" if source is None else source.get("network") or source.get("bridge") or source.get("dev") or ""
        found.append(InterfaceFacts(mac="" if mac is None else mac.get("address", ""), network=network))
    return found
