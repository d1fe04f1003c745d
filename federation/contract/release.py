"""Contract releases: the range that this tree serves, and the machine-readable form of the working tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import inspect

from federation.contract.capabilities import MEANING, NeedsCapability
from federation.contract.errors import CATALOGUE, InvalidRequest
from federation.contract.operations import DECLARED, Operation
from federation.contract.since import VALUES_SINCE, Value
from federation.contract.validation import VALUE_NEEDS


class Release(NamedTuple):
    """``major.minor``; minor releases only add."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1.0``; raise InvalidRequest on anything else."""
        major, dot, minor = text.partition(".")
        if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
            message = f"contract release is {text!r}, expected major.minor such as 1.0"
            raise InvalidRequest(message, field="release", value=text)
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.major}.{self.minor}"


CURRENT = Release(1, 1)
LOWEST = Release(1, 0)


def snapshot(declared: Iterable[Operation] = DECLARED, release: Release = CURRENT) -> dict[str, Any]:
    """The working tree's contract as data: all that compatibility depends on, which is what a release file freezes.

    ``declared`` and ``release`` are the tree's own unless others are to be looked at.  ``types`` are JSON Schema; ``needs`` says which types and values of requests ask for a capability, ``since`` which came
    later than what they belong to: ``BootImage``, or ``RebootMode=soft``.
    """
    operations = [operation for operation in declared if _is_part(operation, release)]
    kinds = [kind for operation in operations for kind in (operation.request, operation.result)]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/types/{name}")
    classes = classes_of(kinds)
    contract = {
        "release": str(release),
        "operations": [_operation(operation) for operation in operations],
        "errors": {
            code: {"fault": str(error.fault), "effect": str(error.effect), "next_move": error.next_move}
            for code, error in CATALOGUE.items()
        },
        "capabilities": {str(flag): meaning for flag, meaning in MEANING.items()},
        "needs": dict(sorted(_needs(classes))),
        "since": dict(sorted(_since(classes))),
        "types": components,
    }
    # As a file would give it back: lists, no tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(contract))
    return plain


def _is_part(operation: Operation, release: Release) -> bool:
    """Whether a release has it: not if it is only kept for older releases that are still served."""
    gone = operation.deprecated
    return Release.parse(operation.since) <= release and (gone is None or Release.parse(gone.removal) > release)


def _operation(operation: Operation) -> dict[str, Any]:
    deprecated = operation.deprecated
    return {
        "name": operation.name,
        "revision": operation.revision,
        "since": operation.since,
        "summary": operation.summary,
        "lane": str(operation.lane),
        "ordering": operation.ordering and str(operation.ordering),
        "convergence": str(operation.convergence),
        "capability": operation.capability and str(operation.capability),
        "makes_instance": operation.makes_instance,
        "default_deadline_seconds": operation.default_deadline_seconds,
        "deprecated": deprecated and msgspec.to_builtins(dataclasses.asdict(deprecated)),
        "request": operation.request.__name__,
        "result": operation.result.__name__,
        "errors": sorted(operation.errors),
    }


def _needs(classes: set[type[Any]]) -> Iterator[tuple[str, str]]:
    for kind in classes:
        if issubclass(kind, NeedsCapability):
            yield kind.__name__, str(kind.capability)
    yield from ((name, str(flag)) for name, flag in _by_value(VALUE_NEEDS, classes))


def _since(classes: set[type[Any]]) -> Iterator[tuple[str, str]]:
    for kind in classes:
        if hasattr(kind, "since_release"):
            yield kind.__name__, kind.since_release
    yield from _by_value(VALUES_SINCE, classes)


def _by_value(said: Mapping[Value, str], classes: set[type[Any]]) -> Iterator[tuple[str, str]]:
    return ((f"{kind.__name__}={member.value}", about) for (kind, member), about in said.items() if kind in classes)


def classes_of(kinds: Iterable[type[msgspec.Struct]]) -> set[type[Any]]:
    """The Structs and enumerations that these are made of, themselves included."""
    found: set[type[Any]] = set()
    waiting: list[object] = list(inspect.multi_type_info(kinds))
    while waiting:
        each = waiting.pop()
        if isinstance(each, inspect.StructType | inspect.EnumType):
            if each.cls in found:
                continue
            found.add(each.cls)
        if isinstance(each, tuple):
            waiting += each
        elif isinstance(each, inspect.Type | inspect.Field):
            waiting += (getattr(each, name) for name in each.__struct_fields__)
    return found
