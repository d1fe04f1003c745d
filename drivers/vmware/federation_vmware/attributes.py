"""Custom attributes: what vCenter itself keeps of a host or a machine, untouched by snapshots and reverts."""

from __future__ import annotations

from typing import Any

from federation.contract.errors import AlreadyExists
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Reference, Session
from federation_vmware.machine import Fleet


def value(fleet: Fleet, kind: type, name: str, values: list[Any]) -> str:
    """The attribute among an object's ``customValue``; the last counts, the simulator appends."""
    if not values:
        return ""
    key = _key(fleet, kind, name)
    found = [str(one.value) for one in values if one.key == key]
    return found[-1] if found else ""


def write(fleet: Fleet, attempt: Attempt, kind: type, name: str, what: tuple[Reference, str]) -> None:
    """Set the attribute of an object, and make it known to vCenter the first time."""
    reference, text = what
    key = _key(fleet, kind, name)
    if key is None:
        attempt.guard()
        key = _define(fleet, kind, name)
    attempt.guard()

    def send(session: Session) -> None:
        session.content.customFieldsManager.SetField(session.bound(reference), key, text)

    fleet.connection.change(f"set {name}", send)


def _key(fleet: Fleet, kind: type, name: str) -> int | None:
    fields = fleet.connection.read("list custom attributes", lambda s: s.content.customFieldsManager.field)
    for field in fields or ():
        if field.name == name and field.managedObjectType in {kind, None}:
            return int(field.key)
    return None


def _define(fleet: Fleet, kind: type, name: str) -> int:
    def send(session: Session) -> int:
        return int(session.content.customFieldsManager.AddCustomFieldDef(name, kind).key)

    try:
        return fleet.connection.change(f"define {name}", send)
    except AlreadyExists:
        key = _key(fleet, kind, name)
        if key is None:
            raise
        return key
