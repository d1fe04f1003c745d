"""Routes that no declaration makes: what the manager itself keeps and does."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api import tokens, upkeep
from federation.api.calls import Call, told
from federation.api.problems import STATUS
from federation.api.routes import READS_ONE, Body, ClusterName, OperationId, Query, Route, codes
from federation.contract import errors as e
from federation.contract.errors import CATALOGUE, Effect, Fault
from federation.contract.fields import InstanceId, NodeName
from federation.contract.operations import DECLARED
from federation.contract.release import CURRENT
from federation.manager.operating import Resolution
from federation.protocol.figures import ClusterFigures
from federation.protocol.records import (
    ClusterRecord,
    InstanceRecord,
    NodeRecord,
    OperationRecord,
    OperationState,
    Role,
    WorkerRecord,
)

PageSize = Annotated[int, Meta(ge=1, le=1000, description="At most so many of them.")]
DriverName = Annotated[
    str, Meta(pattern="^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$(?!\\n)", description="Name of a driver.")
]


class OfCluster(Query, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything, or what belongs to one cluster."""

    cluster: ClusterName | None = None


class ListedInstances(OfCluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of instances, by id."""

    cursor: Annotated[InstanceId | None, Meta(description="Where the last page said to continue.")] = None
    limit: PageSize = 100


class ListedOperations(OfCluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of operations, newest first."""

    instance: Annotated[InstanceId | None, Meta(description="Only this instance's, by its id.")] = None
    node: Annotated[NodeName | None, Meta(description="Only this node's; needs its cluster.")] = None
    state: OperationState | None = None
    cursor: Annotated[OperationId | None, Meta(description="Where the last page said to continue.")] = None
    limit: PageSize = 100


class InstanceRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Instances, and the cursor of the next page, null behind the last."""

    items: list[InstanceRecord]
    next: str | None


class OperationRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Operations, and the cursor of the next page, null behind the last."""

    items: list[OperationRecord]
    next: str | None


class NewCluster(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cluster to be made; ``partitions`` is the manager's default if not given."""

    name: ClusterName
    driver: DriverName
    partitions: Annotated[int, Meta(ge=1, le=1024)] | None = None


class Resolve(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is true of the operation that parked it."""

    resolution: Resolution


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The new operation of a retry, null for the others."""

    retried: OperationRecord | None


class ClusterFacts(ClusterRecord, frozen=True, kw_only=True):
    """A cluster, and how many of its operations are in which state; ``parked`` counts instances and nodes.

    ``backlog_seconds`` is how long the admitted workers would need for what waits; null where work waits for no worker.
    """

    operations: dict[str, int]
    backlog_seconds: float | None


class DeclaredOperation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation as this manager's contract release declares it."""

    name: str
    revision: int
    group: str
    verb: str
    summary: str
    lane: str
    ordering: str | None
    since: str
    capability: str | None
    errors: list[str]


class DeclaredError(msgspec.Struct, frozen=True, kw_only=True):
    """An error of the catalogue; ``status`` is HTTP's."""

    code: str
    status: int
    fault: Fault
    effect: Effect
    next_move: str


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The driver contract that this manager speaks; the types of requests and results stand in /openapi.json."""

    release: str
    operations: list[DeclaredOperation]
    errors: list[DeclaredError]


def routes() -> list[Route]:
    """Clusters, nodes, workers, instances, operations, contract, tokens, upkeep."""
    made = [*_clusters(), *_nodes_and_workers(), *_instances(), *_operations(), _contract()]
    return [*made, *tokens.routes(), *upkeep.routes()]


def _clusters() -> list[Route]:
    one = "/v1/clusters/{cluster}"
    return [
        _get("/v1/clusters", "clusters", "list_clusters", "List the clusters.", list[ClusterFacts], _list_clusters),
        _get(one, "clusters", "show_cluster", "Show a cluster.", ClusterFacts, _cluster, codes=READS_ONE),
        _post(
            "/v1/clusters", "clusters", "create_cluster", "Make a cluster and its queues.", ClusterRecord,
            _create_cluster, role=Role.ADMIN, status=201, body=NewCluster, codes=codes(e.AlreadyExists),
        ),
        Route(
            method="DELETE", path=one, name="remove_cluster", tag="clusters", status=204, role=Role.ADMIN, reply=None,
            summary="Remove an empty cluster and its queues.", work=_remove_cluster, codes=codes(e.NotFound, e.InvalidState),
        ),
        _get(
            "/v1/figures", "clusters", "list_figures", "Show what waits, runs and is parked, by cluster and partition.",
            list[ClusterFigures], _figures, query=OfCluster, codes=READS_ONE,
        ),
        _post(
            f"{one}/refresh", "clusters", "refresh_cluster", "Read the inventory of its nodes now.", list[NodeRecord],
            _refresh, slow=True,
            codes=READS_ONE | codes(*(CATALOGUE[c] for c in _codes_of("list_nodes")), e.ContractMismatch, e.DriverBug),
        ),
    ]  # fmt: skip


def _nodes_and_workers() -> list[Route]:
    node, worker = "/v1/clusters/{cluster}/nodes/{node}", "/v1/workers/{worker}"
    return [
        _get("/v1/nodes", "nodes", "nodes", "List the nodes as they were reported last.", list[NodeRecord], _nodes, query=OfCluster),
        _get(node, "nodes", "show_node", "Show a node as it was reported last.", NodeRecord, _node, codes=READS_ONE),
        _post(
            f"{node}/resolve", "nodes", "resolve_node", "Unpark a node whose last operation has an unknown outcome.",
            Resolved, _resolve_node, body=Resolve, codes=codes(e.NotFound, e.InvalidState, e.ContractMismatch),
        ),
        _get("/v1/workers", "workers", "list_workers", "List the workers.", list[WorkerRecord], _workers, query=OfCluster),
        _get(worker, "workers", "show_worker", "Show a worker.", WorkerRecord, _worker, codes=READS_ONE),
        _post(
            f"{worker}/drain", "workers", "drain_worker", "Ask a worker to finish what it runs and leave.", WorkerRecord,
            lambda call: call.ask("drain_worker", worker=_worker(call)["id"]), role=Role.ADMIN, status=202, codes=READS_ONE,
        ),
    ]  # fmt: skip


def _instances() -> list[Route]:
    one = "/v1/instances/{instance}"
    return [
        _get(
            "/v1/instances", "instances", "list_known_instances", "List the instances as the manager knows them.",
            InstanceRecords, _list_instances, query=ListedInstances,
        ),
        _get(
            one, "instances", "show_instance", "Show an instance as the manager knows it.", InstanceRecord,
            lambda call: call.instance(), query=OfCluster, codes=READS_ONE,
        ),
        _post(
            f"{one}/resolve", "instances", "resolve_instance",
            "Unpark an instance whose last operation has an unknown outcome.", Resolved, _resolve_instance,
            body=Resolve, query=OfCluster, codes=codes(e.NotFound, e.InvalidState, e.ContractMismatch),
        ),
    ]  # fmt: skip


def _operations() -> list[Route]:
    one = "/v1/operations/{operation}"
    return [
        _get(
            "/v1/operations", "operations", "list_operations", "List operations, newest first.", OperationRecords,
            _list_operations, query=ListedOperations, codes=READS_ONE,
        ),
        _get(
            one, "operations", "show_operation", "Show an operation and its outcome.", OperationRecord,
            lambda call: call.operation(), codes=READS_ONE,
        ),
        _post(
            f"{one}/cancel", "operations", "cancel_operation",
            "Cancel an operation: refused if it has not started, undone by the driver where it runs.", OperationRecord,
            lambda call: call.ask("cancel", operation=call.operation()["id"]), status=202,
            codes=codes(e.NotFound, e.InvalidState),
        ),
    ]  # fmt: skip


def _contract() -> Route:
    return _get("/v1/contract", "contract", "show_contract", "Show the driver contract.", Contract, lambda _: _CONTRACT)


def _get(  # noqa: PLR0913 (a row of the table)
    path: str, tag: str, name: str, summary: str, reply: Any, work: Callable[[Call], Any], **more: Any
) -> Route:
    made = {"role": Role.READER, "codes": codes(), **more}
    return Route(method="GET", path=path, tag=tag, name=name, summary=summary, reply=reply, work=work, **made)


def _post(  # noqa: PLR0913 (a row of the table)
    path: str, tag: str, name: str, summary: str, reply: Any, work: Callable[[Call], Any], **more: Any
) -> Route:
    made = {"role": Role.OPERATOR, "body": Body, **more}
    return Route(method="POST", path=path, tag=tag, name=name, summary=summary, reply=reply, work=work, **made)


def _list_clusters(call: Call) -> list[dict[str, Any]]:
    counts = call.ask("counts")
    backlog = {each["cluster"]: each["backlog_seconds"] for each in call.ask("figures")}
    return [
        {
            **record,
            "operations": counts.get(record["name"], {}),
            "backlog_seconds": backlog.get(record["name"], 0.0),
        }
        for record in call.ask("clusters")
        if call.sees(record["name"])
    ]


def _cluster(call: Call) -> dict[str, Any]:
    name = call.check_cluster(call.path["cluster"])
    for record in _list_clusters(call):
        if record["name"] == name:
            return record
    raise e.NotFound(f"cluster {name!r} is not known", field="cluster", value=name)


def _figures(call: Call) -> list[Any]:
    return [
        each for cluster in call.clusters_asked(call.query.cluster) for each in call.ask("figures", cluster=cluster)
    ]


def _create_cluster(call: Call) -> Any:
    call.check_cluster(call.body.name)
    return call.ask("create_cluster", cluster=call.body.name, **told(call.body, "name"))


def _remove_cluster(call: Call) -> None:
    call.ask("remove_cluster", cluster=call.check_cluster(call.path["cluster"]))


def _refresh(call: Call) -> Any:
    cluster = _cluster(call)["name"]
    call.ask("refresh_cluster", cluster=cluster)
    return call.ask("nodes", cluster=cluster)


def _nodes(call: Call) -> list[Any]:
    return [node for cluster in call.clusters_asked(call.query.cluster) for node in call.ask("nodes", cluster=cluster)]


def _node(call: Call) -> dict[str, Any]:
    cluster, name = call.check_cluster(call.path["cluster"]), call.path["node"]
    for node in call.ask("nodes", cluster=cluster):
        if node["name"] == name:
            found: dict[str, Any] = node
            return found
    raise e.NotFound(f"node {name!r} is not known in cluster {cluster!r}", field="node", value=name)


def _workers(call: Call) -> list[Any]:
    return [
        each for cluster in call.clusters_asked(call.query.cluster) for each in call.ask("workers", cluster=cluster)
    ]


def _worker(call: Call) -> dict[str, Any]:
    for worker in call.ask("workers"):
        if worker["id"] == call.path["worker"] and call.sees(worker["cluster"]):
            found: dict[str, Any] = worker
            return found
    name = call.path["worker"]
    raise e.NotFound(f"worker {name!r} is not known", field="worker", value=name)


def _list_instances(call: Call) -> dict[str, Any]:
    query = call.query
    pages = [
        call.ask("instances", cluster=cluster, after=query.cursor, limit=query.limit)
        for cluster in call.clusters_asked(query.cluster)
    ]
    return _page(heapq.merge(*pages, key=lambda record: record["id"]), query.limit)


def _list_operations(call: Call) -> dict[str, Any]:
    query = call.query
    filters: dict[str, Any] = {"node": query.node, "state": query.state, "before": query.cursor, "limit": query.limit}
    if query.node is not None and query.instance is not None:
        raise e.InvalidRequest("instance and node are both given; an operation belongs to one of them", field="node")
    pages = [
        call.ask("operations", cluster=cluster, instance=query.instance, **filters)
        for cluster in call.clusters_asked(query.cluster)
    ]
    return _page(heapq.merge(*pages, key=lambda record: record["id"], reverse=True), query.limit)


def _page(records: Any, limit: int) -> dict[str, Any]:
    items = [record for _, record in zip(range(limit), records, strict=False)]
    return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}


def _resolve_instance(call: Call) -> dict[str, Any]:
    instance = call.instance()["id"]
    retried = call.ask("resolve", instance=instance, resolution=call.body.resolution, requested_by=call.asker)
    return {"retried": retried}


def _resolve_node(call: Call) -> dict[str, Any]:
    where = {"node": call.path["node"], "cluster": call.check_cluster(call.path["cluster"])}
    return {"retried": call.ask("resolve", resolution=call.body.resolution, requested_by=call.asker, **where)}


def _codes_of(name: str) -> list[str]:
    return sorted(code for operation in DECLARED if operation.name == name for code in operation.errors)


_CONTRACT = msgspec.to_builtins(
    Contract(
        release=str(CURRENT),
        operations=[
            DeclaredOperation(
                name=o.name,
                revision=o.revision,
                group=o.group,
                verb=o.verb,
                summary=o.summary,
                lane=o.lane,
                ordering=o.ordering,
                since=o.since,
                capability=o.capability,
                errors=sorted(o.errors),
            )
            for o in DECLARED
        ],
        errors=[
            DeclaredError(
                code=code, status=STATUS[code], fault=kind.fault, effect=kind.effect, next_move=kind.next_move
            )
            for code, kind in CATALOGUE.items()
        ],
    )
)
