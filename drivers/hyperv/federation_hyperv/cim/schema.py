"""CIM classes, read from the data in `federation_hyperv.schemas`.

Each file names the page of Microsoft's reference that publishes the class.  Keys of a class follow the CIM schema: the
references of an association, `CreationClassName` and `Name` of a system, the four scoping keys of a device or a service,
and `InstanceID` of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import msgspec

from federation_hyperv.cim.errors import UnknownClass


@dataclass(frozen=True, slots=True)
class Field:
    """A property or a parameter: its CIM type, whether it is an array, a key, and of which class a reference is."""

    name: str
    type: str
    array: bool = False
    key: bool = False
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """A method: what goes in and what comes out, besides the ReturnValue."""

    name: str
    inputs: Mapping[str, Field]
    outputs: Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class CimClass:
    """A class with all of its properties, inherited ones included, as Microsoft's pages list them."""

    name: str
    namespace: str
    parent: str
    source: str
    properties: Mapping[str, Field]
    methods: Mapping[str, Method]
    folded: Mapping[str, Field]
    """The properties by their names in lower case: CIM's names have no case."""
    keys: tuple[str, ...] = ()

    def find(self, name: str) -> Field:
        """A property by its name in any case; UnknownClass when there is none."""
        found = self.properties.get(name) or self.folded.get(name.lower())
        if found is None:
            raise UnknownClass(f"{self.name} has no property {name}")
        return found

    def method(self, name: str) -> Method:
        """A method by its name; UnknownClass when there is none."""
        if name not in self.methods:
            raise UnknownClass(f"{self.name} has no method {name}")
        return self.methods[name]

    @property
    def is_association(self) -> bool:
        """Whether instances tie two others together."""
        return any(item.type == "reference" and item.key for item in self.properties.values())


class Schemas:
    """All classes by name, and what derives from what."""

    def __init__(self, classes: Mapping[str, CimClass], parents: Mapping[str, str]) -> None:
        self._classes = {name.lower(): item for name, item in classes.items()}
        self._parents = {name.lower(): parent for name, parent in parents.items()}
        self._parents.update({item.name.lower(): item.parent for item in classes.values() if item.parent})
        self._names = {name.lower() for pair in self._parents.items() for name in pair} | set(self._classes)
        self._ancestry = {name: frozenset(self._walk(name)) for name in self._names}

    def __iter__(self) -> Iterator[CimClass]:
        """The classes that have instances."""
        return iter(self._classes.values())

    def get(self, name: str) -> CimClass:
        """A class that has instances, by name in any case; UnknownClass when there is none."""
        found = self._classes.get(name.lower())
        if found is None:
            raise UnknownClass(f"there is no class {name}")
        return found

    def has_instances(self, name: str) -> bool:
        """Whether there is a class of this name that can have instances."""
        return name.lower() in self._classes

    def knows(self, name: str) -> bool:
        """Whether there is such a class, with instances of its own or not."""
        return name.lower() in self._names

    def is_a(self, name: str, ancestor: str) -> bool:
        """Whether a class is, or derives from, another."""
        return ancestor.lower() in self._ancestry.get(name.lower(), frozenset({name.lower()}))

    def _walk(self, name: str) -> list[str]:
        seen = [name]
        while (parent := self._parents.get(seen[-1])) and parent.lower() not in seen:
            seen.append(parent.lower())
        return seen


@cache
def load_schemas() -> Schemas:
    """Read all classes, once for each process."""
    classes: dict[str, CimClass] = {}
    parents: dict[str, str] = {}
    for file in resources.files("federation_hyperv.schemas").iterdir():
        if file.name == "parents.json":
            parents = msgspec.json.decode(file.read_bytes())
        elif file.name.endswith(".json"):
            found = _cim_class(msgspec.json.decode(file.read_bytes()))
            classes[found.name] = found
    return Schemas(classes, parents)


def _cim_class(document: dict[str, Any]) -> CimClass:
    properties = _fields(document["properties"])
    methods = {
        name: Method(name, _fields(item["in"]), _fields(item["out"]))
        for name, item in document.get("methods", {}).items()
    }
    return CimClass(
        name=document["class"],
        namespace=document["namespace"],
        parent=document["parent"] or "",
        source=document["source"],
        properties=properties,
        methods=MappingProxyType(methods),
        folded=fold(properties),
        keys=tuple(name for name, item in properties.items() if item.key),
    )


def fold(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """Fields by their names in lower case."""
    return MappingProxyType({name.lower(): item for name, item in fields.items()})


def _fields(items: dict[str, dict[str, Any]]) -> Mapping[str, Field]:
    return MappingProxyType(
        {
            name: Field(name, item["type"], item.get("array", False), item.get("key", False), item.get("class", ""))
            for name, item in items.items()
        }
    )
