"""Single devices of a domain: found in its XML, and written for virDomainAttachDeviceFlags.  Pure.

A device that an operation adds bears the operation's id as its alias (``ua-`` and the id; libvirt leaves aliases with
that prefix alone).  That is how a repeat knows what it began itself.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

_SERIAL_LENGTH = 20
"""What virtio carries, VIRTIO_BLK_ID_BYTES."""
_VIRTIO_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk to connect: path on the node, format as QEMU names it, a serial number of up to 20 characters."""

    path: str
    format: str
    serial: str
    read_only: bool = False


def volume_serial(volume: str) -> str:
    """The serial number under which a guest sees a volume: its name, or a digest of it when that is too long."""
    return volume if len(volume) <= _SERIAL_LENGTH else hashlib.sha256(volume.encode()).hexdigest()[:_SERIAL_LENGTH]


def disk_target(number: int) -> str:
    """Device name of the n-th virtio disk, counted from 0: vda … vdz, vdaa and so on."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(_VIRTIO_LETTERS))
        letters = _VIRTIO_LETTERS[rest] + letters
    return f"vd{letters}"


def free_target(*domains: ET.Element) -> str:
    """The first device name that none of the domains uses."""
    taken = {target_of(disk) for domain in domains for disk in domain.iterfind("devices/disk")}
    number = 0
    while disk_target(number) in taken:
        number += 1
    return disk_target(number)


def disk(wanted: Disk, target: str, operation: str = "") -> ET.Element:
    """A <disk>; the format is always said, because QEMU would else guess it from what the guest wrote."""
    node = ET.Element("disk", type="file", device="disk")
    ET.SubElement(node, "driver", name="qemu", type=wanted.format)
    ET.SubElement(node, "source", file=wanted.path)
    ET.SubElement(node, "target", dev=target, bus="virtio")
    if wanted.read_only:
        ET.SubElement(node, "readonly")
    ET.SubElement(node, "serial").text = wanted.serial
    _mark(node, operation)
    return node


def interface(mac: str, network: str, operation: str = "") -> ET.Element:
    """An <interface> on a libvirt network."""
    node = ET.Element("interface", type="network")
    ET.SubElement(node, "mac", address=mac)
    ET.SubElement(node, "source", network=network)
    ET.SubElement(node, "model", type="virtio")
    _mark(node, operation)
    return node


def disk_at(domain: ET.Element | None, path: str) -> ET.Element | None:
    """The disk of a domain whose own file is at ``path``."""
    return next((node for node in _each(domain, "disk") if path_of(node) == path), None)


def interface_with(domain: ET.Element | None, mac: str) -> ET.Element | None:
    """The interface of a domain with that MAC address."""
    return next((node for node in _each(domain, "interface") if mac_of(node) == mac), None)


def path_of(disk: ET.Element) -> str:
    """The file or device behind a disk, empty when it is something else."""
    source = disk.find("source")
    return "" if source is None else source.get("file") or source.get("dev") or ""


def paths_below(disk: ET.Element) -> Iterator[str]:
    """The file behind a disk and every file below it that libvirt tells of."""
    for source in disk.iter("source"):
        path = source.get("file") or source.get("dev")
        if path:
            yield path


def target_of(disk: ET.Element) -> str:
    """A disk's device name."""
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def format_of(disk: ET.Element) -> str:
    """A disk's format, as its definition says it."""
    driver = disk.find("driver")
    return "" if driver is None else driver.get("type", "")


def mac_of(interface: ET.Element) -> str:
    """An interface's MAC address."""
    mac = interface.find("mac")
    return "" if mac is None else mac.get("address", "").lower()


def network_of(interface: ET.Element) -> str:
    """The network, bridge or device that an interface is connected to."""
    source = interface.find("source")
    return "" if source is None else source.get("network") or source.get("bridge") or source.get("dev") or ""


def boots_from(domain: ET.Element, disk: ET.Element) -> bool:
    """Whether a domain that is not booted from a kernel starts from this disk."""
    first = domain.find("devices/disk")
    return domain.find("os/kernel") is None and first is not None and target_of(first) == target_of(disk)


def added_by(device: ET.Element | None, operation: str) -> bool:
    """Whether a device was added by that operation."""
    alias = None if device is None else device.find("alias")
    return alias is not None and alias.get("name") == f"ua-{operation}"


def _mark(node: ET.Element, operation: str) -> None:
    if operation:
        ET.SubElement(node, "alias", name=f"ua-{operation}")


def _each(domain: ET.Element | None, kind: str) -> list[ET.Element]:
    return [] if domain is None else domain.findall(f"devices/{kind}")
