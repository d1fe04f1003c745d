"""Which release a part of the contract came with, and what of a request a given release cannot say (DESIGN §5.2).

Rules:

1. A field that came later than its Struct bears ``since`` in its annotation; so it stands in the frozen release file too.
2. A value of an enumeration (a capability too) that came later stands in ``VALUES_SINCE``; a Struct that came later (a new
   kind of boot source) says so by the class variable ``since_release``.
3. What is newer than the release that is spoken and says more than its default is refused by its name, never dropped.
4. A newer field that has its default is left out: who speaks the older release forbids fields that it does not know.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Meta

from federation.contract.capabilities import Capability

Numbers = tuple[int, int]
"""Major and minor; ``Release`` is one."""

_KEY = "since"

Value = tuple[type[enum.Enum], enum.Enum]
"""A value of one enumeration; by itself it would equal the values of other enumerations that have the same text."""


def value_of(member: enum.Enum) -> Value:
    """The key of a table of values."""
    return type(member), member


VALUES_SINCE: dict[Value, str] = {value_of(Capability.HOT_RESIZE): "1.1"}
"""Values that came later than the enumeration that they belong to: by ``value_of`` them, the release they came with."""


def since(release: str, **limits: Any) -> Meta:
    """The annotation of a field that came with this release, with what else msgspec's Meta takes.

    ``nested: Annotated[bool, since("1.1")] = False``: such a field must have a default.
    """
    numbers(release)
    return Meta(extra={_KEY: release}, extra_json_schema={_KEY: release}, **limits)


def numbers(release: str) -> Numbers:
    """Read ``1.1``; ValueError on anything else, because a declaration said it."""
    major, _, minor = release.partition(".")
    return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Newer:
    """A part of a request that is newer than the release spoken: ``path`` names it, ``release`` is what it came with."""

    path: str
    release: str


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def newer_parts(value: object, spoken: Numbers, values: Mapping[Value, str] = VALUES_SINCE) -> Iterator[Newer]:
    """Every part of a request that this release cannot say and that says something (rule 3), by its path."""
    yield from _newer(value, "", spoken, values)


def _newer(value: object, path: str, spoken: Numbers, values: Mapping[Value, str]) -> Iterator[Newer]:
    if isinstance(value, enum.Enum):
        release = values.get(value_of(value))
        if release is not None and numbers(release) > spoken:
            yield Newer(f"{path}={value.value}", release)
    elif isinstance(value, msgspec.Struct):
        release = getattr(type(value), "since_release", None)
        if release is not None and numbers(release) > spoken:
            yield Newer(path, release)
            return
        yield from _newer_fields(value, path, spoken, values)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _newer(part, f"{path}.{name}", spoken, values)
    elif isinstance(value, list | tuple | set | frozenset):
        for index, part in enumerate(value):
            yield from _newer(part, f"{path}[{index}]", spoken, values)


def _newer_fields(value: msgspec.Struct, path: str, spoken: Numbers, values: Mapping[Value, str]) -> Iterator[Newer]:
    releases = _releases(type(value))
    for field in _fields(type(value)):
        there = f"{path}.{field.name}" if path else field.name
        part = getattr(value, field.name)
        release = releases.get(field.name)
        if release is None or numbers(release) <= spoken:
            yield from _newer(part, there, spoken, values)
        elif not _is_default(field, part):
            yield Newer(there, release)


def as_spoken(value: msgspec.Struct, spoken: Numbers) -> dict[str, Any]:
    """The request in builtin types, without the fields that this release does not know (rule 4).

    Call it on what ``newer_parts`` finds nothing in; otherwise something would be lost.
    """
    plain = msgspec.to_builtins(value)
    _strip(value, plain, spoken)
    return typing.cast("dict[str, Any]", plain)


def _strip(value: object, plain: Any, spoken: Numbers) -> None:
    if isinstance(value, msgspec.Struct):
        releases = _releases(type(value))
        for field in _fields(type(value)):
            release = releases.get(field.name)
            if release is not None and numbers(release) > spoken:
                plain.pop(field.encode_name, None)
            elif field.encode_name in plain:
                _strip(getattr(value, field.name), plain[field.encode_name], spoken)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _strip(part, plain[name], spoken)
    elif isinstance(value, list | tuple):
        for part, plain_part in zip(value, plain, strict=True):
            _strip(part, plain_part, spoken)


def _is_default(field: msgspec.structs.FieldInfo, value: object) -> bool:
    if field.default is not msgspec.NODEFAULT:
        return bool(value == field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return False


@functools.cache
def _releases(kind: type[msgspec.Struct]) -> dict[str, str]:
    """By field: the release that it came with, of those fields that say so."""
    return {
        field.name: release
        for field in msgspec.structs.fields(kind)
        if (release := field_since(field.type)) is not None
    }


def field_since(annotation: object) -> str | None:
    """The release that a field's annotation names, None when it came with its Struct."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metas = typing.get_args(annotation)
        for meta in metas:
            if isinstance(meta, Meta) and _KEY in (meta.extra or {}):
                return str(meta.extra[_KEY])  # type: ignore[index]  # looked into above
        return field_since(inner)
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return next((found for part in typing.get_args(annotation) if (found := field_since(part))), None)
    return None
