"""A domain's XML for another node: the same machine, whose files lie elsewhere.  Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from federation_libvirt import ownership
from federation_libvirt.ownership import Ownership

IMMOVABLE = ("hostdev", "filesystem", "redirdev", "tpm", "shmem")
"""Devices that are bound to their node."""


def moved(domain: ET.Element, paths: Mapping[str, str], owner: Ownership) -> str:
    """The XML with every path of ``paths`` replaced, wherever a file is named, and with other metadata of ours.

    What libvirt had found out about lower layers of a disk is left out; it finds out again.
    """
    for disk in domain.iterfind("devices/disk"):
        for layer in disk.findall("backingStore"):
            disk.remove(layer)
    for node in domain.iter():
        file = node.get("file", "")
        if file in paths:
            node.set("file", paths[file])
    for name in ("kernel", "initrd"):
        for node in domain.iterfind(f"os/{name}"):
            node.text = paths.get(node.text or "", node.text)
    _replace_owner(domain, owner)
    return ET.tostring(domain, encoding="unicode")


def log_files(domain: ET.Element) -> set[str]:
    """The files that libvirt writes what the guest prints to."""
    return {log.get("file", "") for log in domain.iterfind("devices/*/log") if log.get("file")}


def boot_files(domain: ET.Element) -> list[str]:
    """Kernel and RAM disk, where it boots from them."""
    return [text for name in ("kernel", "initrd") if (text := domain.findtext(f"os/{name}"))]


def immovable(domain: ET.Element) -> str:
    """What binds the machine to its node, empty when nothing does."""
    if domain.find("os/nvram") is not None:
        return "firmware variables (nvram)"
    return next((f"a {kind}" for kind in IMMOVABLE if domain.find(f"devices/{kind}") is not None), "")


def _replace_owner(domain: ET.Element, owner: Ownership) -> None:
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    element = ownership.element(owner)
    for old in metadata.findall(element.tag):
        metadata.remove(old)
    metadata.append(element)
