"""The manager's use cases as HTTP requests, without sending any.

Rules:

1. What the manager's door calls by a method's name is here one request of the same name; its reply has the door's shape.
2. Declared operations and reads have no line here: their paths come from ``federation.bootstrap.rest_paths``.
3. A field that has its declared default is not sent: a manager of an earlier contract release may not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from federation.bootstrap.rest_paths import method_of, path_of, served_operations
from federation.cli.problems import not_served
from federation.contract.errors import InvalidRequest
from federation.contract.operations import Operation

Arguments = Mapping[str, Any]


def _whole(reply: Any) -> Any:
    return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; ``value`` makes of its JSON reply what the door would have answered."""

    method: str
    template: str
    path: Arguments = field(default_factory=dict)
    query: Arguments = field(default_factory=dict)
    body: Arguments | None = None
    key: str | None = None
    value: Callable[[Any], Any] = _whole

    @property
    def target(self) -> str:
        """The path with its variables filled in; raises InvalidRequest for an empty one, which names another path."""
        for name, value in self.path.items():
            if str(value) in {"", ".", ".."}:
                raise InvalidRequest(f"{name} is {value!r}, expected a name or an id", field=name, value=value)
        return self.template.format(**{name: quote(str(value), safe="") for name, value in self.path.items()})

    @property
    def parameters(self) -> dict[str, str]:
        """The query as texts."""
        return {name: _text(value) for name, value in self.query.items() if value is not None}

    @property
    def may_be_repeated(self) -> bool:
        """Whether it is done once however often it arrives: reads, and every POST, because each bears a key."""
        return self.method in {"GET", "POST"}


def request_of(use_case: str, arguments: Arguments) -> Request:
    """The request of a use case; raises Problem."""
    make = _USE_CASES.get(use_case)
    if make is None:
        raise not_served(f"{use_case} is not served by the REST API: it goes over the broker")
    return make(arguments)


def use_cases() -> frozenset[str]:
    """Names of the use cases that can be asked for."""
    return frozenset(_USE_CASES)


def events_of(operation: str) -> Request:
    """The event stream of an operation."""
    return Request(method="GET", template="/v1/operations/{operation}/events", path={"operation": operation})


def _get(
    template: str, *path: str, value: Callable[[Any], Any] = _whole, **query: str
) -> Callable[[Arguments], Request]:
    """A GET whose query takes, under its own name, the argument of another name."""

    def make(arguments: Arguments) -> Request:
        told = {name: arguments.get(argument) for name, argument in query.items()}
        return Request(
            method="GET", template=template, path={name: arguments[name] for name in path}, query=told, value=value
        )

    return make


def _post(template: str, *path: str, **body: str) -> Callable[[Arguments], Request]:
    def make(arguments: Arguments) -> Request:
        told = {name: arguments[argument] for name, argument in body.items() if arguments.get(argument) is not None}
        return Request(method="POST", template=template, path={name: arguments[name] for name in path}, body=told)

    return make


def _items(reply: Any) -> Any:
    return reply["items"]


def _counts(reply: Any) -> Any:
    return {cluster["name"]: cluster["operations"] for cluster in reply}


def _remove_cluster(arguments: Arguments) -> Request:
    return Request(method="DELETE", template="/v1/clusters/{cluster}", path={"cluster": arguments["cluster"]})


def _resolve(arguments: Arguments) -> Request:
    body = {"resolution": arguments["resolution"]}
    if arguments.get("node") is not None:
        path = {name: arguments[name] for name in ("cluster", "node")}
        template = "/v1/clusters/{cluster}/nodes/{node}/resolve"
        return Request(method="POST", template=template, path=path, body=body, value=_retried)
    return Request(
        method="POST",
        template="/v1/instances/{instance}/resolve",
        path={"instance": arguments["instance"]},
        query={"cluster": arguments.get("cluster")},
        body=body,
        value=_retried,
    )


def _republish(arguments: Arguments) -> Request:
    after = arguments.get("after")
    body = {} if after is None else {"after": {"key": after[0], "sequence": after[1]}}
    return Request(
        method="POST",
        template="/v1/clusters/{cluster}/republish",
        path={"cluster": arguments["cluster"]},
        body=body,
        value=_republished,
    )


def _republished(reply: Any) -> Any:
    end = reply["next"]
    return {**reply, "next": None if end is None else [end["key"], end["sequence"]]}


def _retried(reply: Any) -> Any:
    return reply["retried"]


def _submit(arguments: Arguments) -> Request:
    operation = _served(arguments)
    fields, path, told = _fields_and_path(operation, arguments)
    if operation.makes_instance:
        fields["cluster"] = arguments["cluster"]
    query = {"deadline_seconds": arguments.get("deadline_seconds")}
    return Request(
        method=method_of(operation),
        template=path_of(operation),
        path=path,
        query=query if operation.makes_instance else {**query, **told},
        body=fields,
        key=arguments.get("idempotency_key"),
    )


def _read(arguments: Arguments) -> Request:
    operation = _served(arguments)
    fields, path, told = _fields_and_path(operation, arguments)
    return Request(method=method_of(operation), template=path_of(operation), path=path, query={**fields, **told})


def _served(arguments: Arguments) -> Operation:
    name, revision = arguments["name"], arguments.get("revision", 1)
    for operation in served_operations():
        if (operation.name, operation.revision) == (name, revision):
            return operation
    raise not_served(
        f"{name} revision {revision} is not served by the REST API, which serves the newest of each operation"
    )


def _fields_and_path(operation: Operation, arguments: Arguments) -> tuple[dict[str, Any], Arguments, Arguments]:
    """The fields that are to be sent, the path's variables, and where else the subject has to be said."""
    fields = _without_defaults(operation, arguments.get("arguments", {}))
    where = {**fields, **{name: arguments[name] for name in ("cluster", "instance") if arguments.get(name) is not None}}
    path = {name: where[name] for name in ("cluster", "node", "instance") if f"{{{name}}}" in path_of(operation)}
    for name in path:
        fields.pop(name, None)
    told = {"cluster": arguments.get("cluster")} if "instance" in path else {}
    return fields, path, told


def _without_defaults(operation: Operation, arguments: Arguments) -> dict[str, Any]:
    defaults = {
        each.name: msgspec.to_builtins(each.default)
        for each in msgspec.structs.fields(operation.request)
        if each.default is not msgspec.NODEFAULT
    }
    return {name: value for name, value in arguments.items() if name not in defaults or value != defaults[name]}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_USE_CASES: dict[str, Callable[[Arguments], Request]] = {
    "submit": _submit,
    "read": _read,
    "operation": _get("/v1/operations/{operation}", "operation"),
    "operations": _get(
        "/v1/operations", value=_items, cluster="cluster", instance="instance", node="node", state="state", cursor="before",
        limit="limit",
    ),
    "cancel": _post("/v1/operations/{operation}/cancel", "operation"),
    "resolve": _resolve,
    "instance": _get("/v1/instances/{instance}", "instance", cluster="cluster"),
    "instances": _get("/v1/instances", value=_items, cluster="cluster", cursor="after", limit="limit"),
    "clusters": _get("/v1/clusters"),
    "counts": _get("/v1/clusters", value=_counts),
    "figures": _get("/v1/figures", cluster="cluster"),
    "create_cluster": _post("/v1/clusters", name="cluster", driver="driver", partitions="partitions"),
    "remove_cluster": _remove_cluster,
    "repartition": _post("/v1/clusters/{cluster}/repartition", "cluster", partitions="partitions"),
    "take_back_repartition": _post("/v1/clusters/{cluster}/take-back-repartition", "cluster"),
    "epoch": _get("/v1/clusters/{cluster}/epoch", "cluster"),
    "republish": _republish,
    "compare_cluster": _post("/v1/clusters/{cluster}/compare", "cluster", write="write"),
    "forget_node": _post("/v1/clusters/{cluster}/nodes/{node}/forget", "cluster", "node"),
    "audit": _get(
        "/v1/audit", value=_items, cluster="cluster", actor="actor", action="action", cursor="before", limit="limit"
    ),
    "refresh_cluster": _post("/v1/clusters/{cluster}/refresh", "cluster"),
    "nodes": _get("/v1/nodes", cluster="cluster"),
    "workers": _get("/v1/workers", cluster="cluster"),
    "drain_worker": _post("/v1/workers/{worker}/drain", "worker"),
    "own_token": _get("/v1/token"),
    "tokens": _get("/v1/tokens"),
    "add_token": _post(
        "/v1/tokens", id="id", name="name", digest="digest", role="role", lifetime_seconds="lifetime_seconds", clusters="clusters"
    ),
    "revoke_token": _post("/v1/tokens/{token}/revoke", "token"),
    "contract": _get("/v1/contract"),
    "document": _get("/openapi.json"),
}  # fmt: skip
"""``own_token``, ``contract`` and ``document`` are the REST interface's own; the door has all the others."""
