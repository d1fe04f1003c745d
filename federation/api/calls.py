"""One request on its way through a use case: who asks, what is asked, and which clusters that may concern."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from federation.api.problems import forbidden
from federation.bootstrap.client import value_of
from federation.contract.errors import InvalidRequest, NotFound
from federation.contract.fields import UUID_PATTERN
from federation.manager.counters import Caller
from federation.protocol.records import TokenRecord

_UUID = re.compile(UUID_PATTERN)
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""The manager's door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request.

    ``key`` is its idempotency key, ``fingerprint`` that of all that it asks, ``request`` its id.
    """

    ask_manager: Ask
    token: TokenRecord
    path: dict[str, str]
    query: Any
    body: Any
    key: str | None
    fingerprint: str
    request: str = ""

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call the manager's door; raises the error of the catalogue that it answers."""
        told = {name: value for name, value in arguments.items() if value is not None}
        asked = {"by": self.asker, **({"request": self.request} if self.request else {})}
        return value_of(self.ask_manager(method, {**told, "asked": asked}))

    def submit(self, name: str, revision: int, arguments: dict[str, Any], **where: Any) -> dict[str, Any]:
        """Submit an operation in the name of the token; the manager, too, knows the idempotency key."""
        record: dict[str, Any] = self.ask(
            "submit",
            name=name,
            revision=revision,
            arguments=arguments,
            deadline_seconds=getattr(self.query, "deadline_seconds", None),
            idempotency_key=None if self.key is None else f"{self.token.id}/{self.key}/{self.fingerprint}",
            requested_by=self.asker,
            caller=Caller.API,
            **where,
        )
        return record

    @property
    def asker(self) -> str:
        """Who asks, for the manager's records."""
        return f"token {self.token.name}"

    def check_cluster(self, cluster: str) -> str:
        """Refuse a cluster that the token is not good for."""
        if not self.sees(cluster):
            raise forbidden(f"the token is not good for cluster {cluster!r}")
        return cluster

    def sees(self, cluster: str) -> bool:
        """Whether the token is good for a cluster."""
        return self.token.clusters is None or cluster in self.token.clusters

    def clusters_asked(self, cluster: str | None) -> list[str | None]:
        """Which clusters a list is read from, one by one; None is all of them."""
        if cluster is not None:
            return [self.check_cluster(cluster)]
        return [None] if self.token.clusters is None else list(self.token.clusters)

    def instance(self) -> dict[str, Any]:
        """The instance of the path, by id or name; one of a cluster that the token is not good for is not found."""
        name = self.path["instance"]
        found: dict[str, dict[str, Any]] = {}
        for cluster in self.clusters_asked(getattr(self.query, "cluster", None)):
            try:
                record = self.ask("instance", instance=name, cluster=cluster)
            except NotFound:
                continue
            if self.sees(record["cluster"]):
                found[record["id"]] = record
        if not found:
            raise NotFound(f"instance {name!r} is not known", field="instance", value=name)
        if len(found) > 1:
            where = ", ".join(sorted(record["cluster"] for record in found.values()))
            raise InvalidRequest(
                f"instances named {name!r} exist in the clusters {where}; give the id", field="instance"
            )
        return next(iter(found.values()))

    def change_instance(self, name: str, revision: int, arguments: dict[str, Any]) -> dict[str, Any]:
        """Submit an operation of the path's instance; with an id and a token for all clusters the manager looks once."""
        identity = self.path["instance"]
        if self.token.clusters is None and getattr(self.query, "cluster", None) is None and _UUID.fullmatch(identity):
            try:
                return self.submit(name, revision, {**arguments, "instance": identity})
            except NotFound:
                pass  # it may be a name that looks like an id
        found = self.instance()
        return self.submit(name, revision, {**arguments, "instance": found["id"]}, cluster=found["cluster"])

    def operation(self) -> dict[str, Any]:
        """The operation of the path; one of a cluster that the token is not good for is not found."""
        name = self.path["operation"]
        record: dict[str, Any] = self.ask("operation", operation=name)
        if not self.sees(record["cluster"]):
            raise NotFound(f"operation {name} is not known", field="operation", value=name)
        return record


def told(struct: Any, *left_out: str) -> dict[str, Any]:
    """A struct's fields in builtin types, without those that have their default and those that are left out."""
    plain: dict[str, Any] = msgspec.to_builtins(struct)
    kind: type[msgspec.Struct] = type(struct)
    defaults = _defaults(kind)
    return {
        name: value
        for name, value in plain.items()
        if name not in left_out and not (value is None and defaults[name] is None)
    }


@functools.cache
def _defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(kind)}
