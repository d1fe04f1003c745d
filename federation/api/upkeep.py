"""Routes for whoever looks after an installation: epochs of a cluster, nodes that are gone, the audit log."""

from __future__ import annotations

import heapq
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api.calls import Call
from federation.api.routes import READS_ONE, Body, ClusterName, Query, Route, codes
from federation.contract import errors as e
from federation.contract.errors import CATALOGUE
from federation.contract.fields import END
from federation.contract.operations import DECLARED
from federation.manager.comparing import Comparison
from federation.manager.epochs import MAX_PARTITIONS, EpochFacts, Republished
from federation.protocol.records import AuditRecord, Role

_PRINTABLE = "^[^\\x00-\\x1f\\x7f]+" + END
AuditId = Annotated[str, Meta(pattern=_PRINTABLE, max_length=64, description="Where the last page said to continue.")]
Text = Annotated[str, Meta(pattern=_PRINTABLE, max_length=200)]
_ASKS_A_WORKER = codes(
    e.NotFound,
    e.ContractMismatch,
    e.DriverBug,
    *(CATALOGUE[c] for o in DECLARED if o.name in {"list_nodes", "list_instances"} for c in o.errors),
)


class Partitions(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many partitions the cluster shall have."""

    partitions: Annotated[int, Meta(ge=1, le=MAX_PARTITIONS)]


class Position(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Behind which operation a page begins."""

    key: Text
    sequence: Annotated[int, Meta(ge=1, le=2**62)]


class From(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the last page ended; nothing at first."""

    after: Position | None = None


class RepublishedPage(msgspec.Struct, frozen=True, kw_only=True):
    """How many operations are published again, and where the next page begins, null behind the last."""

    cluster: str
    operations: int
    next: Position | None


class Compared(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether node, state and size are written down as they were found."""

    write: bool = False


class ListedAudit(Query, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of the audit log, newest first."""

    cluster: ClusterName | None = None
    actor: Text | None = None
    action: Text | None = None
    cursor: AuditId | None = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="At most so many of them.")] = 100


class AuditRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Records of the audit log, and the cursor of the next page, null behind the last."""

    items: list[AuditRecord]
    next: str | None


def routes() -> list[Route]:
    """For admins, but for where a cluster stands, which everybody may see."""
    one = "/v1/clusters/{cluster}"
    return [
        Route(
            method="GET", path=f"{one}/epoch", name="show_epoch", tag="clusters", role=Role.READER, reply=EpochFacts,
            summary="Show where a cluster stands between two epochs.", codes=READS_ONE,
            work=lambda call: call.ask("epoch", cluster=_cluster(call)),
        ),
        Route(
            method="POST", path=f"{one}/repartition", name="repartition", tag="clusters", role=Role.ADMIN, reply=EpochFacts,
            summary="Give a cluster another number of partitions, once all that it has accepted is settled.", status=202,
            body=Partitions, codes=codes(e.NotFound, e.InvalidState),
            work=lambda call: call.ask("repartition", cluster=_cluster(call), partitions=call.body.partitions),
        ),
        Route(
            method="POST", path=f"{one}/take-back-repartition", name="take_back_repartition", tag="clusters", role=Role.ADMIN,
            reply=EpochFacts, summary="Keep the number of partitions that the cluster has.", body=Body,
            codes=codes(e.NotFound, e.InvalidState),
            work=lambda call: call.ask("take_back_repartition", cluster=_cluster(call)),
        ),
        Route(
            method="POST", path=f"{one}/republish", name="republish", tag="clusters", role=Role.ADMIN, reply=RepublishedPage,
            summary="Declare a cluster's queues and publish a page of its unsettled operations again.", body=From,
            codes=READS_ONE, work=_republish,
        ),
        Route(
            method="POST", path=f"{one}/compare", name="compare_cluster", tag="clusters", role=Role.ADMIN, reply=Comparison,
            summary="Compare what the hypervisors have with what the manager knows.", body=Compared, slow=True,
            codes=_ASKS_A_WORKER,
            work=lambda call: call.ask("compare_cluster", cluster=_cluster(call), write=call.body.write),
        ),
        Route(
            method="POST", path=f"{one}/nodes/{{node}}/forget", name="forget_node", tag="nodes", role=Role.ADMIN, reply=None,
            summary="Forget a node that is gone and has no instances.", status=204, body=Body, slow=True,
            codes=_ASKS_A_WORKER | codes(e.InvalidState),
            work=lambda call: call.ask("forget_node", cluster=_cluster(call), node=call.path["node"]),
        ),
        Route(
            method="GET", path="/v1/audit", name="list_audit", tag="audit", role=Role.ADMIN, reply=AuditRecords,
            summary="List who asked for what, newest first.", query=ListedAudit, codes=codes(), work=_audit,
        ),
    ]  # fmt: skip


def _cluster(call: Call) -> str:
    return call.check_cluster(call.path["cluster"])


def _republish(call: Call) -> dict[str, Any]:
    after = None if call.body.after is None else [call.body.after.key, call.body.after.sequence]
    told = msgspec.convert(call.ask("republish", cluster=_cluster(call), after=after), Republished)
    end = None if told.next is None else {"key": told.next[0], "sequence": told.next[1]}
    return {"cluster": told.cluster, "operations": told.operations, "next": end}


def _audit(call: Call) -> dict[str, Any]:
    query = call.query
    filters = {"actor": query.actor, "action": query.action, "before": query.cursor, "limit": query.limit}
    pages = [call.ask("audit", cluster=cluster, **filters) for cluster in call.clusters_asked(query.cluster)]
    merged = heapq.merge(*pages, key=lambda record: record["id"], reverse=True)
    items = [record for _, record in zip(range(query.limit), merged, strict=False)]
    return {"items": items, "next": items[-1]["id"] if len(items) == query.limit else None}
