"""What libvirt says of a domain as the contract's Instance.  Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import PurePosixPath

from federation.contract.instances import DiskFacts, Instance, InterfaceFacts, PowerState
from federation_libvirt import ownership

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


def instance(domain: ET.Element, look: Look, node: str, cluster: str) -> Instance:
    """The facts; the domain is owned when it carries our metadata for this very cluster and its own id."""
    identity = domain.findtext("uuid", "")
    owner = ownership.read(domain)
    owned = owner is not None and owner.cluster == cluster and owner.instance == identity
    sizes = owner.disks if owner is not None and owned else {}
    return Instance(
        id=identity,
        name=domain.findtext("name", ""),
        node=node,
        power_state=look.power_state,
        vcpus=vcpus(domain),
        memory_bytes=memory_bytes(domain),
        owned=owned,
        disks=tuple(_disks(domain, sizes)),
        interfaces=tuple(_interfaces(domain)),
        metadata=owner.metadata if owner is not None and owned else {},
    )


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


def _disks(domain: ET.Element, sizes: dict[str, int]) -> list[DiskFacts]:
    """Disks that hold data: media that can only be read (the cloud-init one among them) are left out."""
    found = []
    for disk in domain.iterfind("devices/disk"):
        if disk.get("device", "disk") != "disk" or disk.find("readonly") is not None:
            continue
        target = disk.find("target")
        name = "" if target is None else target.get("dev", "")
        found.append(DiskFacts(name=name, size_bytes=sizes.get(name), source=_source(disk)))
    return found


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
