"""What a route is: everything that the server and the OpenAPI document need to know of one method of one path."""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api.calls import Call
from federation.contract.errors import InvalidRequest, NotFound, Unavailable
from federation.contract.fields import END, UUID_PATTERN, InstanceName, NodeName
from federation.protocol.records import Role

ClusterName = Annotated[
    str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" + END, max_length=63, description="Name of a cluster.")
]
OperationId = Annotated[str, Meta(pattern=UUID_PATTERN, description="UUID of an operation.")]
WorkerId = Annotated[
    str, Meta(min_length=1, max_length=255, pattern="^[^/\\x00-\\x20\\x7f]+" + END, description="Id of a worker.")
]
PATH_TYPES: dict[str, Any] = {
    "cluster": ClusterName,
    "instance": Annotated[InstanceName, Meta(description="Id of an instance, or its name.")],
    "node": NodeName,
    "operation": OperationId,
    "worker": WorkerId,
    "token": Annotated[str, Meta(pattern="^[0-9a-f]{32}" + END, description="Id of a token.")],
}
"""The type of each variable of a path."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a path: none unless a route says more."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request: an empty object unless a route says more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    ``role`` is the least that a token needs, None where none is needed.  ``codes`` are the errors of the catalogue that
    it may answer.  ``slow`` says that it waits for a worker.  ``work`` runs in a thread.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    role: Role | None
    reply: Any
    work: Callable[[Call], Any]
    status: int = 200
    query: type[msgspec.Struct] = Query
    body: type[msgspec.Struct] | None = None
    codes: frozenset[str] = field(default_factory=frozenset)
    slow: bool = False

    def path_variables(self) -> list[str]:
        """In the order of the path."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def codes(*more: type[Exception]) -> frozenset[str]:
    """The codes of these errors, and of those that every route may answer."""
    return frozenset(error.code for error in (InvalidRequest, Unavailable, *more))  # type: ignore[attr-defined]  # they are errors of the catalogue


READS_ONE = codes(NotFound)


def read_query(told: Mapping[str, str], kind: type[msgspec.Struct]) -> Any:
    """A query's texts as its type; raises msgspec.ValidationError."""
    return kind(**msgspec.structs.asdict(msgspec.convert(told, _without_null(kind), strict=False)))


@functools.cache
def _without_null(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same type, but nothing can be given as null: msgspec would read the text ``null`` so."""
    fields: list[tuple[str, Any, Any]] = []
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        field = next(each for each in msgspec.structs.fields(kind) if each.name == name)
        fields.append((name, _not_none(annotation), field.default))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True, forbid_unknown_fields=True)


def _not_none(annotation: Any) -> Any:
    """``Annotated[X | None, …]`` and ``X | None`` as X; the limits stand in X."""
    if typing.get_origin(annotation) is Annotated:
        inner, *metas = typing.get_args(annotation)
        return Annotated[(_not_none(inner), *metas)]
    parts = typing.get_args(annotation)
    if type(None) not in parts:
        return annotation
    return functools.reduce(operator.or_, (part for part in parts if part is not type(None)))
