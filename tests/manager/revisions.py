"""A contract of two releases for tests: what release 1.1 could bring, beside what the tree declares.

``relabel`` has two revisions that differ: the second says ``title`` where the first said ``label``, and can say
``colour``; its result says ``shown`` where the first said ``text``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import msgspec

from federation.contract import requests as r
from federation.contract.adapters import Adapter, Revisions, only_default
from federation.contract.operations import DECLARED, Deprecation, Lane, Operation, find
from federation.contract.release import Release
from federation.contract.since import since

OLD, NEW, NEWEST = Release(1, 0), Release(1, 1), Release(1, 2)


class Relabel(r.InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    label: str


class Relabel2(r.InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str
    colour: str = ""


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class Labelled2(msgspec.Struct, frozen=True, kw_only=True):
    shown: str


class Pause(r.InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gently: Annotated[bool, since("1.1")] = False


def up(plain: dict[str, Any]) -> dict[str, Any]:
    return {"instance": plain["instance"], "title": plain["label"]}


def down(plain: dict[str, Any]) -> dict[str, Any]:
    rest = only_default(plain, "colour", "")
    return {"instance": rest["instance"], "label": rest["title"]}


ADAPTER = Adapter(
    name="relabel",
    older=1,
    newer=2,
    request_up=up,
    request_down=down,
    result_up=lambda result: {"shown": result["text"]},
    result_down=lambda result: {"text": result["shown"]},
)


def relabels(lane: Lane = Lane.ORDERED, name: str = "relabel") -> tuple[Operation, Operation]:
    """Both revisions: the first is gone from release 1.2 on, the second came with 1.1."""
    model = replace(find("power_on" if lane is Lane.ORDERED else "get_instance"), name=name, capability=None)
    gone = Deprecation(replaced_by=(name, 2), since="1.1", removal="1.2")
    first = replace(model, request=Relabel, result=Labelled, deprecated=gone)
    return first, replace(model, revision=2, request=Relabel2, result=Labelled2, since="1.1")


def two_releases() -> Revisions:
    """The tree's contract with ``relabel``, its reading sister ``read_label``, and a pause that can be gentle."""
    declared = [replace(o, request=Pause) if o.name == "pause" else o for o in DECLARED]
    declared += [*relabels(), *relabels(Lane.QUERY, "read_label")]
    return Revisions(declared, [ADAPTER, replace(ADAPTER, name="read_label")])
