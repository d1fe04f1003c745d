"""Snapshots as libvirt describes them, and as we ask for them.  Pure.

https://libvirt.org/formatsnapshot.html.  A snapshot of ours bears its operation's id as name; cluster, the name for
people, and whether its memory is wanted stand as JSON in its description.
"""

from __future__ import annotations

import datetime as dt
import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import msgspec

from federation.contract.instances import PowerState
from federation.contract.snapshots import Snapshot
from federation_libvirt.domain_xml import serialise

_STATES = {"running": PowerState.RUNNING, "paused": PowerState.PAUSED}


class _Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What our snapshots have in their description."""

    cluster: str
    name: str
    memory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot: what the contract shows of it, whether libvirt holds memory in it, and the domain as it was."""

    shown: Snapshot
    active: bool
    domain: ET.Element


def render(operation: str, cluster: str, name: str, *, memory: bool) -> str:
    """The <domainsnapshot> to ask for."""
    node = ET.Element("domainsnapshot")
    ET.SubElement(node, "name").text = operation
    # ASCII JSON carries every character that XML cannot.
    ET.SubElement(node, "description").text = json.dumps({"cluster": cluster, "name": name, "memory": memory})
    return serialise(node)


def kept(snapshot: ET.Element, cluster: str, *, current: bool) -> Kept:
    """What a <domainsnapshot> says; a snapshot without our note for this cluster is foreign."""
    identity = snapshot.findtext("name", "")
    note = _note(snapshot, cluster)
    state = _STATES.get(snapshot.findtext("state", ""), PowerState.STOPPED)
    domain = snapshot.find("inactiveDomain")
    if domain is None:
        domain = snapshot.find("domain")
    shown = Snapshot(
        id=identity,
        name=identity if note is None else note.name,
        created_at=dt.datetime.fromtimestamp(int(snapshot.findtext("creationTime", "0")), dt.UTC),
        power_state=PowerState.STOPPED if note is not None and not note.memory else state,
        parent=snapshot.findtext("parent/name"),
        current=current,
        owned=note is not None,
    )
    active = state is not PowerState.STOPPED
    return Kept(shown=shown, active=active, domain=ET.Element("domain") if domain is None else domain)


def _note(snapshot: ET.Element, cluster: str) -> _Note | None:
    try:
        note = msgspec.json.decode(snapshot.findtext("description", ""), type=_Note)
    except msgspec.MsgspecError:
        return None  # somebody else's words
    return note if note.cluster == cluster else None
