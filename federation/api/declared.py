"""Routes made from the contract's declarations: an operation that is declared is a route, without a line here.

``federation.bootstrap.rest_paths`` says where.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api.calls import Call, told
from federation.api.routes import Body, ClusterName, Query, Route, codes
from federation.bootstrap.rest_paths import method_of, path_of, served_operations
from federation.contract import errors as e
from federation.contract.operations import Lane, Operation, Ordering
from federation.contract.requests import InstanceRequest
from federation.manager.counters import Caller
from federation.protocol.records import OperationRecord, Role

_CHANGES = codes(
    e.NotFound,
    e.InvalidState,
    e.NotSupported,
    e.InsufficientResources,
    e.Parked,
    e.ContractMismatch,
    e.Overloaded,
)
_GUARDED_GROUP = "console"
"""Who sees a console can use it: looking is not reading here."""


DeadlineSeconds = Annotated[
    float,
    Meta(gt=0, le=7 * 86400, description="Seconds until it does not start any more; the operation's own if not given."),
]


class Submitted(Query, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a submission may say beside its body."""

    deadline_seconds: DeadlineSeconds | None = None


class SubmittedForInstance(Submitted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for an instance by name."""

    cluster: Annotated[ClusterName | None, Meta(description="The instance's cluster, where names are not unique.")] = (
        None
    )


def routes() -> list[Route]:
    """Every declared operation as a route."""
    return [_route(operation) for operation in served_operations()]


def _route(operation: Operation) -> Route:
    if operation.lane is Lane.QUERY:
        return _query_of_instance(operation) if _names_instance(operation) else _query_of_cluster(operation)
    if operation.ordering is Ordering.NODE:
        return _change_of_node(operation)
    return _making(operation) if operation.makes_instance else _change_of_instance(operation)


def _names_instance(operation: Operation) -> bool:
    return issubclass(operation.request, InstanceRequest)


def _change_of_instance(operation: Operation) -> Route:
    def work(call: Call) -> Any:
        return call.change_instance(operation.name, operation.revision, told(call.body))

    return _change(operation, work, _body(operation, {"instance"}), SubmittedForInstance)


def _making(operation: Operation) -> Route:
    """``create`` may leave the id to the manager, the others name in the path what they take over."""
    by_id = operation.name != "create"

    def work(call: Call) -> Any:
        cluster = call.check_cluster(call.body.cluster)
        arguments = told(call.body, "cluster")
        if by_id:
            arguments["instance"] = call.path["instance"]
        return call.submit(operation.name, operation.revision, arguments, cluster=cluster)

    body = _body(operation, {"instance"} if by_id else set(), cluster=True)
    return _change(operation, work, body, Submitted, e.AlreadyExists)


def _change_of_node(operation: Operation) -> Route:
    def work(call: Call) -> Any:
        cluster = call.check_cluster(call.path["cluster"])
        arguments = {**told(call.body), "node": call.path["node"]}
        return call.submit(operation.name, operation.revision, arguments, cluster=cluster)

    return _change(operation, work, _body(operation, {"node"}), Submitted)


def _change(
    operation: Operation,
    work: Callable[[Call], Any],
    body: type[msgspec.Struct],
    query: type[msgspec.Struct],
    *more: type[e.OperationError],
) -> Route:
    return Route(
        method=method_of(operation),
        path=path_of(operation),
        name=operation.name,
        tag=operation.group,
        summary=operation.summary,
        role=Role.OPERATOR,
        reply=OperationRecord,
        status=202,
        query=query,
        body=body,
        codes=_CHANGES | codes(*more),
        work=work,
    )


def _query_of_instance(operation: Operation) -> Route:
    def work(call: Call) -> Any:
        instance = call.instance()
        return _read(call, operation, told(call.query, "cluster"), instance=instance["id"])

    return _query(operation, work, _struct(operation, "Query", Query, {"instance"}, _WHERE))


def _query_of_cluster(operation: Operation) -> Route:
    def work(call: Call) -> Any:
        return _read(call, operation, told(call.query), cluster=call.check_cluster(call.path["cluster"]))

    return _query(operation, work, _struct(operation, "Query", Query, set(), []))


def _query(operation: Operation, work: Callable[[Call], Any], query: type[msgspec.Struct]) -> Route:
    return Route(
        method=method_of(operation),
        path=path_of(operation),
        name=operation.name,
        tag=operation.group,
        summary=operation.summary,
        role=Role.OPERATOR if operation.group == _GUARDED_GROUP else Role.READER,
        reply=operation.result,
        query=query,
        codes=codes(e.NotFound, e.ContractMismatch, e.DriverBug) | operation.errors,
        slow=True,
        work=work,
    )


def _read(call: Call, operation: Operation, arguments: dict[str, Any], **where: str) -> Any:
    return call.ask(
        "read", name=operation.name, revision=operation.revision, arguments=arguments, caller=Caller.API, **where
    )


_WHERE: list[tuple[str, Any, Any]] = [("cluster", ClusterName | None, None)]


def _body(operation: Operation, left_out: set[str], *, cluster: bool = False) -> type[msgspec.Struct]:
    more: list[tuple[str, Any, Any]] = [("cluster", ClusterName, msgspec.NODEFAULT)] if cluster else []
    return _struct(operation, "Body", Body, left_out, more)


def _struct(
    operation: Operation,
    suffix: str,
    base: type[msgspec.Struct],
    left_out: set[str],
    more: list[tuple[str, Any, Any]],
) -> type[msgspec.Struct]:
    """The operation's request without what the path says; ``create`` may leave the instance's id out."""
    hints = typing.get_type_hints(operation.request, include_extras=True)
    fields: list[Any] = [
        (name, kind) if default is msgspec.NODEFAULT else (name, kind, default) for name, kind, default in more
    ]
    for field in msgspec.structs.fields(operation.request):
        if field.name in left_out:
            continue
        if field.name == "instance" and operation.makes_instance:
            fields.append((field.name, hints[field.name] | None, None))
        elif field.required:
            fields.append((field.name, hints[field.name]))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.name, hints[field.name], msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, hints[field.name], field.default))
    name = "".join(word.capitalize() for word in operation.name.split("_")) + suffix
    return msgspec.defstruct(
        name,
        fields,
        bases=(base,),
        namespace={"__doc__": operation.request.__doc__},
        module=__name__,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
