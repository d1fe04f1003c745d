"""Instances as libvirt domain XML.  Pure: specification and places in, text out; no I/O.

Element names and units: https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

from federation.contract.errors import InvalidRequest
from federation.contract.instances import BootKernel, Flavour, InstanceSpec
from federation_libvirt import device_xml, extensions, names, ownership
from federation_libvirt.device_xml import Disk
from federation_libvirt.ownership import Ownership
from federation_libvirt.settings import DomainType

# https://www.w3.org/TR/xml/#charsets: what XML 1.0 cannot carry, not even escaped; and surrogates.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
AGENT_CHANNEL = "org.qemu.guest_agent.0"
"""The port at which QEMU's guest agent listens, https://wiki.qemu.org/Features/GuestAgent."""
SPARE_PORTS = 20
"""How many devices a running guest can be given; firmware finds room for more ports than this."""
PORTS_OF_OTHERS = 5
"""For our virtio devices that are neither disk nor interface, and for a screen."""
DEFAULT_MACHINES = {"x86_64": "q35"}
OTHER_MACHINE = "virt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What the node is.

    ``architecture`` is libvirt's word, ``machine`` the QEMU machine type to use, ``machines`` those that the node knows
    (empty when it does not say).
    """

    architecture: str
    domain_type: DomainType
    machine: str
    machines: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A graphical console by VNC: the address on which QEMU listens, and the password (at most 8 characters count)."""

    listen: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things lie on the node; kernel and RAM disk are known only after they were fetched."""

    disks: tuple[Disk, ...]
    console_log: str
    kernel: str = ""
    initrd: str = ""
    screen: Screen | None = None


def render(instance: str, spec: InstanceSpec, platform: Platform, places: Places, owner: Ownership) -> str:
    """The domain of an instance.  InvalidRequest when a field holds what XML cannot carry or an extension is refused."""
    options = extensions.options(spec.extensions)
    domain = ET.Element("domain", type=str(platform.domain_type))
    _text(domain, "name", spec.name)
    _text(domain, "uuid", instance)
    ET.SubElement(domain, "metadata").append(ownership.element(owner))
    _text(domain, "memory", str(spec.flavour.memory_bytes), unit="b")
    _text(domain, "vcpu", str(spec.flavour.vcpus))
    _boot(domain, spec, platform, places, _machine(str(options.get("machine", platform.machine)), platform))
    _features(domain, platform)
    _processor(domain, spec.flavour, platform)
    ET.SubElement(domain, "clock", offset="utc")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "preserve")):
        _text(domain, event, action)
    _devices(domain, instance, spec, platform, places)
    if "xml" in options:
        extensions.merge(domain, str(options["xml"]))
    return serialise(domain)


def with_flavour(xml: str, flavour: Flavour) -> str:
    """A domain's inactive XML with other processors and memory; everything else stays as somebody made it."""
    domain = parse(xml)
    for name in ("memory", "currentMemory", "vcpu"):
        for old in domain.findall(name):
            domain.remove(old)
    _text(domain, "memory", str(flavour.memory_bytes), unit="b")
    _text(domain, "vcpu", str(flavour.vcpus))
    processor = domain.find("cpu")
    if processor is None:
        processor = ET.SubElement(domain, "cpu")
    for topology in processor.findall("topology"):
        processor.remove(topology)
    _topology(processor, flavour)
    if not processor.attrib and not len(processor):
        domain.remove(processor)
    return serialise(domain)


def parse(xml: str) -> ET.Element:
    """XML that libvirt sent."""
    return ET.fromstring(xml)  # noqa: S314 - libvirt is trusted: it already owns the host


def serialise(domain: ET.Element) -> str:
    """Text for libvirt; InvalidRequest when a field holds a character that XML cannot carry."""
    for node in domain.iter():
        for value in (node.text or "", *node.attrib.values()):
            found = _NOT_XML.search(value)
            if found:
                raise InvalidRequest(
                    f"{node.tag} holds the character U+{ord(found[0]):04X}, which XML cannot carry", field=node.tag
                )
    return ET.tostring(domain, encoding="unicode")


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, name, attributes).text = text


def _machine(name: str, platform: Platform) -> str:
    if platform.machines and name not in platform.machines:
        known = ", ".join(sorted(platform.machines))
        raise InvalidRequest(f"machine type {name!r} is not known to the node; it knows: {known}", field="machine")
    return name


def _boot(domain: ET.Element, spec: InstanceSpec, platform: Platform, places: Places, machine: str) -> None:
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch=platform.architecture, machine=machine)
    if places.kernel:
        _text(os, "kernel", places.kernel)
        _text(os, "initrd", places.initrd)
    if isinstance(spec.boot, BootKernel):
        if places.kernel and spec.boot.command_line:
            _text(os, "cmdline", spec.boot.command_line)
    else:
        ET.SubElement(os, "boot", dev="hd")


def _features(domain: ET.Element, platform: Platform) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    if platform.architecture == "x86_64":
        ET.SubElement(features, "apic")


def _processor(domain: ET.Element, flavour: Flavour, platform: Platform) -> None:
    # Emulation offers everything that it can ("maximum"); with KVM a named model keeps migration possible.
    mode = "host-model" if platform.domain_type is DomainType.KVM else "maximum"
    _topology(ET.SubElement(domain, "cpu", mode=mode), flavour)


def _topology(processor: ET.Element, flavour: Flavour) -> None:
    if flavour.topology is not None:
        shape = flavour.topology
        ET.SubElement(
            processor,
            "topology",
            sockets=str(shape.sockets),
            cores=str(shape.cores),
            threads=str(shape.threads),
        )


def _devices(domain: ET.Element, instance: str, spec: InstanceSpec, platform: Platform, places: Places) -> None:
    devices = ET.SubElement(domain, "devices")
    _ports(devices, domain.find("os/type"), len(places.disks) + len(spec.interfaces))
    for number, disk in enumerate(places.disks):
        devices.append(device_xml.disk(disk, device_xml.disk_target(number)))
    for number, interface in enumerate(spec.interfaces):
        mac = interface.mac or names.mac_address(instance, number)
        devices.append(device_xml.interface(mac, interface.network))
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=places.console_log, append="on")
    ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    if places.screen is not None:
        _screen(devices, places.screen, platform)
    random = ET.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", model="virtio")
    if platform.architecture == "x86_64":
        # The guest says through it that its kernel has panicked; the domain is then kept as crashed.
        ET.SubElement(devices, "panic", model="isa")


def _ports(devices: ET.Element, machine: ET.Element | None, devices_at_start: int) -> None:
    """Ports for PCI Express machines, where a device can be added to a running guest only at a port that is there.

    libvirt makes none to spare (https://libvirt.org/pci-hotplug.html).
    """
    name = "" if machine is None else machine.get("machine", "")
    if "q35" not in name and not name.startswith("virt"):
        return
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for index in range(1, devices_at_start + PORTS_OF_OTHERS + SPARE_PORTS + 1):
        ET.SubElement(devices, "controller", type="pci", index=str(index), model="pcie-root-port")


def _screen(devices: ET.Element, screen: Screen, platform: Platform) -> None:
    graphics = ET.SubElement(
        devices, "graphics", type="vnc", port="-1", autoport="yes", passwd=screen.password, sharePolicy="ignore"
    )  # fmt: skip
    ET.SubElement(graphics, "listen", type="address", address=screen.listen)
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga" if platform.architecture == "x86_64" else "virtio")
