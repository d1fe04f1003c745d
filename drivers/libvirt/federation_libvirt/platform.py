"""What a node can run, from what libvirt says of it.  Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from federation.contract.errors import HypervisorRefused
from federation_libvirt.domain_xml import DEFAULT_MACHINES, OTHER_MACHINE, Platform
from federation_libvirt.settings import DomainType

_VIRTUALISATION = frozenset({"vmx", "svm"})


def platform_of(
    capabilities: ET.Element, cpu_features: frozenset[str], domain_type: DomainType, machine: str
) -> Platform:
    """The platform for new domains.

    ``capabilities`` is virConnectGetCapabilities, ``cpu_features`` are the names of the host processor's features.
    Raises HypervisorRefused when the node cannot run the domain type at all.
    """
    architecture = capabilities.findtext("host/cpu/arch", "x86_64")
    guests = _guests(capabilities, architecture)
    listed = frozenset(domain.get("type", "") for guest in guests for domain in guest.iterfind("domain"))
    chosen = _choose(listed, cpu_features, architecture) if domain_type is DomainType.AUTO else domain_type
    if chosen not in listed:
        known = ", ".join(sorted(listed)) or "none"
        raise HypervisorRefused(f"the node cannot run domains of type {chosen} for {architecture}; it lists: {known}")
    return Platform(
        architecture=architecture,
        domain_type=chosen,
        machine=machine or DEFAULT_MACHINES.get(architecture, OTHER_MACHINE),
        machines=frozenset(node.text or "" for guest in guests for node in guest.iterfind("machine")),
    )


def _choose(listed: frozenset[str], cpu_features: frozenset[str], architecture: str) -> DomainType:
    """Take kvm only where it is plausible.

    libvirt lists kvm when /dev/kvm opens.  On hosts that are virtual machines themselves it can open and yet run no
    guest: seen with a kernel that offers KVM without vmx or svm, where QEMU started and the guest never ran.
    """
    plausible = architecture != "x86_64" or bool(_VIRTUALISATION & cpu_features)
    return DomainType.KVM if "kvm" in listed and plausible else DomainType.QEMU


def _guests(capabilities: ET.Element, architecture: str) -> list[ET.Element]:
    """The <arch> elements of fully virtualised guests of the host's own architecture."""
    return [
        arch
        for guest in capabilities.iterfind("guest")
        if guest.findtext("os_type") == "hvm"
        for arch in guest.iterfind("arch")
        if arch.get("name") == architecture
    ]
