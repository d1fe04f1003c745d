"""Our element in a domain's metadata: whose the domain is, and the markers that make operations convergent.  Pure.

It is the journal of the driver: it lives on the hypervisor, with the domain, and outlives every worker.  libvirt keeps
two copies of it, one in the definition on disk and one in the running domain, which is taken from the definition when the
domain starts.  That is what tells whether a reboot has happened (``boot``, see ``power``).
"""

from __future__ import annotations

import enum
import json
import logging
import xml.etree.ElementTree as ET

import msgspec

logger = logging.getLogger(__name__)

NAMESPACE = "urn:driver-federation:libvirt:1"
PREFIX = "federation"
_TAG = f"{{{NAMESPACE}}}instance"

ET.register_namespace(PREFIX, NAMESPACE)


class Stage(enum.StrEnum):
    """How far ``create`` has come."""

    BUILDING = "building"
    """Defined; disks may be missing; it cannot have run."""
    BUILT = "built"
    """Everything is there; it may have been started."""
    COMPLETE = "complete"


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """What we write on a domain of ours.

    ``operation`` is the id of the create; ``boot`` is the operation that asked for the last start by ``reboot``;
    ``metadata`` is the caller's; ``disks`` are sizes in bytes by target device.
    """

    cluster: str
    instance: str
    operation: str
    stage: Stage
    boot: str = ""
    name: str = ""
    """The name of an adopted instance; empty means the domain's own."""
    done: str = ""
    """The last operation of ``guest`` that was carried out."""
    leaving: str = ""
    """Set in the definition while a migration copies from here: its operation, and the pools that both nodes share."""
    arrived: str = ""
    """Set while a migration comes to its end: its operation, the node it comes from, and the pools that both share."""
    reverted: str = ""
    """The last revert_snapshot whose disks and memory are back; a snapshot brings the metadata of its time with it."""
    captured: str = ""
    """The last capture_image to a URL that has arrived: its operation, then size, virtual size and checksum."""
    metadata: dict[str, str] = {}
    disks: dict[str, int] = {}


class _Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    metadata: dict[str, str] = {}
    disks: dict[str, int] = {}


def element(ownership: Ownership) -> ET.Element:
    """The element, in our namespace.  The open maps go as ASCII JSON: XML cannot carry every character."""
    node = ET.Element(_TAG, _attributes(ownership))
    node.text = _text(ownership)
    return node


def plain_text(ownership: Ownership) -> str:
    """The element as virDomainSetMetadata wants it: libvirt adds the namespace."""
    node = ET.Element("instance", _attributes(ownership))
    node.text = _text(ownership)
    return ET.tostring(node, encoding="unicode")


def read(domain: ET.Element) -> Ownership | None:
    """The element of a domain's XML; None when there is none, or none that we can read (the domain is foreign then)."""
    node = domain.find(f"metadata/{_TAG}")
    if node is None:
        return None
    try:
        text = msgspec.json.decode(node.text or "{}", type=_Text)
        return msgspec.convert({**node.attrib, **msgspec.structs.asdict(text)}, Ownership)
    except msgspec.MsgspecError:
        logger.warning("domain %s has metadata of ours that cannot be read", domain.findtext("uuid"), exc_info=True)
        return None


def cluster_of(text: str) -> str:
    """The cluster that the element belongs to, as virDomainGetMetadata gives it; empty when it cannot be read."""
    try:
        return ET.fromstring(text).get("cluster", "")  # noqa: S314 - from libvirt
    except ET.ParseError:
        logger.warning("metadata of ours cannot be read: %.200s", text)
        return ""


def _attributes(ownership: Ownership) -> dict[str, str]:
    always = {name: str(getattr(ownership, name)) for name in ("cluster", "instance", "operation", "stage", "boot")}
    return always | {
        name: value
        for name in ("name", "done", "leaving", "arrived", "reverted", "captured")
        if (value := getattr(ownership, name))
    }


def _text(ownership: Ownership) -> str:
    return json.dumps({"metadata": ownership.metadata, "disks": ownership.disks}, sort_keys=True)
