"""The options under ``extensions["libvirt"]``: what they may say, and how they are merged into a domain.  Pure.

Rules:

1. ``machine`` names a QEMU machine type; ``xml`` is a ``<domain>`` element with the children to add.  Nothing else.
2. Only the elements of the table are taken, and none with an absolute path in it.  Whatever names a file, a device or
   a command of the host stays out: who may create an instance must not thereby own the host.
3. An element that the domain has once replaces ours; devices are added (video replaces ours); the processor topology
   stays the flavour's.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from federation.contract.errors import InvalidRequest

DRIVER = "libvirt"
MAX_XML_CHARACTERS = 65536
_MACHINE = re.compile(r"^[A-Za-z0-9._-]{1,64}\Z")

REPLACEABLE = frozenset(
    {"title", "description", "clock", "cputune", "memtune", "numatune", "memoryBacking", "pm", "cpu"}
)
"""Children of <domain> that replace ours."""
MERGEABLE = frozenset({"features"})
"""Children of <domain> whose own children are added to ours."""
DEVICES = frozenset({"watchdog", "input", "video", "sound", "memballoon", "controller"})
"""Children of <devices> that may be added."""


def options(extensions: Mapping[str, Mapping[str, str | int | bool]]) -> Mapping[str, str | int | bool]:
    """This driver's options; InvalidRequest names the first one that is not known or not right."""
    given = extensions.get(DRIVER, {})
    for name, value in given.items():
        if name not in {"machine", "xml"}:
            raise InvalidRequest(
                f'extensions["libvirt"] has {name!r}, known are: machine, xml', field=f"extensions.libvirt.{name}"
            )
        if not isinstance(value, str):
            raise InvalidRequest(f'extensions["libvirt"].{name} is {value!r}, expected text', field=name)
    machine = given.get("machine")
    if machine is not None and not _MACHINE.match(str(machine)):
        raise InvalidRequest(
            f'extensions["libvirt"].machine is {machine!r}, expected a machine type such as q35', field="machine"
        )
    return given


def merge(domain: ET.Element, text: str) -> None:
    """Put the children of the ``<domain>`` element in ``text`` into ``domain``; InvalidRequest when they may not be there."""
    for child in _parse(text):
        if child.tag in REPLACEABLE:
            _replace(domain, child)
        elif child.tag in MERGEABLE:
            _add(domain, child)
        elif child.tag == "devices":
            _add_devices(domain, child)
        else:
            allowed = ", ".join(sorted(REPLACEABLE | MERGEABLE | {"devices"}))
            raise _refused(f"<{child.tag}> may not be given, allowed are: {allowed}")


def _parse(text: str) -> ET.Element:
    if len(text) > MAX_XML_CHARACTERS:
        raise _refused(f"{len(text)} characters, at most {MAX_XML_CHARACTERS} are taken")
    if "<!" in text:
        # Neither entities (expansion attacks) nor CDATA have a place here.
        raise _refused("declarations, comments and CDATA sections may not be given")
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities were refused above
    except (ET.ParseError, ValueError) as error:
        raise _refused(f"not well-formed XML: {error}") from error
    if root.tag != "domain":
        raise _refused(f"the outermost element is <{root.tag}>, expected <domain>")
    for node in root.iter():
        for value in (node.text or "", *node.attrib.values()):
            if value.strip().startswith("/"):
                raise _refused(f"<{node.tag}> names {value.strip()!r}; paths of the node may not be given")
    return root


def _replace(domain: ET.Element, child: ET.Element) -> None:
    old = domain.find(child.tag)
    if old is None:
        domain.append(child)
        return
    if child.tag == "cpu":
        _keep_topology(old, child)
    domain[list(domain).index(old)] = child


def _keep_topology(old: ET.Element, new: ET.Element) -> None:
    for given in new.findall("topology"):
        new.remove(given)
    topology = old.find("topology")
    if topology is not None:
        new.append(topology)


def _add(domain: ET.Element, child: ET.Element) -> None:
    ours = domain.find(child.tag)
    if ours is None:
        domain.append(child)
        return
    for given in child:
        old = ours.find(given.tag)
        if old is not None:
            ours.remove(old)
        ours.append(given)


def _add_devices(domain: ET.Element, child: ET.Element) -> None:
    devices = domain.find("devices")
    if devices is None:
        devices = ET.SubElement(domain, "devices")
    if child.find("video") is not None:
        for ours in devices.findall("video"):
            devices.remove(ours)
    for given in child:
        if given.tag not in DEVICES:
            allowed = ", ".join(sorted(DEVICES))
            raise _refused(f"<devices> has <{given.tag}>, allowed are: {allowed}")
        if given.tag == "memballoon":
            _replace(devices, given)
        else:
            devices.append(given)


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f'extensions["libvirt"].xml: {why}', field="extensions.libvirt.xml")
