"""The types of a release file, read back: places where a value stands, and what may stand there.

Release files hold JSON Schema as msgspec writes it.  A *place* (a field, an item of a list, a value of a map) takes null
or not, and one or more *members*: plain types, enumerations, lists, maps, structs.  Members are known by a key that says
what is seen on the wire, so that the alternatives of a tagged union are paired by their tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
Types = Mapping[str, Schema]


@dataclass(frozen=True, slots=True)
class Member:
    """One alternative of a place; ``name`` is its type's name where it has one, ``tag`` is ``field=value`` in a union."""

    key: str
    kind: str
    name: str | None
    tag: str | None
    schema: Schema


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands."""

    nullable: bool
    members: Mapping[str, Member]


def read_place(schema: Schema, types: Types) -> Place:
    """The place that a schema describes; KeyError names a type that the release file lacks."""
    nullable = False
    members: dict[str, Member] = {}
    for part in schema.get("anyOf", [schema]):
        if part.get("type") == "null":
            nullable = True
            continue
        member = _read_member(part, types)
        members[member.key] = member
    return Place(nullable, members)


def _read_member(part: Schema, types: Types) -> Member:
    name = type_name(part)
    schema = part if name is None else types[name]
    kind = _kind(schema)
    tag = _tag(schema) if kind == "struct" else None
    key = tag or {"struct": "object", "map": "object"}.get(kind, kind)
    return Member(key, kind, name, tag, schema)


def type_name(part: Schema) -> str | None:
    """The name that a reference refers to, None when it is none."""
    reference = part.get("$ref")
    return None if reference is None else str(reference).rsplit("/", 1)[-1]


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return "enum"
    kind = str(schema.get("type", "any"))
    if kind == "object":
        return "struct" if "properties" in schema else "map"
    return kind


def _tag(schema: Schema) -> str | None:
    """``field=value`` of a tagged struct: its tag is a required field with one possible value."""
    for field in schema.get("required", ()):
        values = schema["properties"][field].get("enum", ())
        if len(values) == 1:
            return f"{field}={values[0]}"
    return None


def tag_field(member: Member) -> str | None:
    """The field that holds the tag."""
    return None if member.tag is None else member.tag.partition("=")[0]


def field_release(schema: Schema) -> str | None:
    """The release that a field's annotation names, None when it came with its struct."""
    return next((str(part["since"]) for part in (schema, *schema.get("anyOf", ())) if "since" in part), None)


def plain_default(schema: Schema, types: Types) -> object:
    """A field's default without what its type's own defaults say, so that a new field deep within does not change it."""
    return _without_defaults(schema.get("default"), schema, types)


def _without_defaults(value: object, schema: Schema, types: Types) -> object:
    if not isinstance(value, dict):
        return value
    for member in read_place(schema, types).members.values():
        if member.kind == "struct" and set(value) <= set(member.schema["properties"]):
            fields = member.schema["properties"]
            bare = {name: _without_defaults(item, fields[name], types) for name, item in value.items()}
            return {name: item for name, item in bare.items() if item != plain_default(fields[name], types)}
    return value


def reached(start: str, types: Types) -> frozenset[str]:
    """The names of all types that a type is made of, itself included."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += _references(types.get(name, {}))
    return frozenset(found)


def _references(schema: object) -> list[str]:
    if isinstance(schema, Mapping):
        own = type_name(schema) if "$ref" in schema else None
        return ([own] if own else []) + [name for part in schema.values() for name in _references(part)]
    if isinstance(schema, list):
        return [name for part in schema for name in _references(part)]
    return []
