"""The arguments of the door's methods, by which they are checked."""

from __future__ import annotations

from typing import Any

import msgspec

from federation.manager.counters import Caller
from federation.manager.operating import Resolution
from federation.protocol.records import OperationState, Role


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of one method."""


class Nothing(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No arguments."""


class Submit(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accept an operation; ``instance`` may be an id or a name."""

    name: str
    arguments: dict[str, Any] = {}
    instance: str | None = None
    cluster: str | None = None
    revision: int = 1
    deadline_seconds: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None
    caller: Caller = Caller.COMMAND


class ByOperation(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation."""

    operation: str


class ListOperations(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Operations, newest first; those of a node need its cluster, too."""

    cluster: str | None = None
    instance: str | None = None
    node: str | None = None
    state: OperationState | None = None
    before: str | None = None
    limit: int = 100


class ByInstance(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance by id or name."""

    instance: str
    cluster: str | None = None


class ListInstances(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of instances."""

    cluster: str | None = None
    after: str | None = None
    limit: int = 100


class Resolve(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resolve a parked instance, or a parked node of a cluster."""

    instance: str | None = None
    node: str | None = None
    resolution: Resolution
    cluster: str | None = None
    requested_by: str | None = None


class ByCluster(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster."""

    cluster: str


class MaybeCluster(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster or all."""

    cluster: str | None = None


class CreateCluster(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a cluster."""

    cluster: str
    driver: str
    partitions: int | None = None


class Repartition(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give a cluster another number of partitions."""

    cluster: str
    partitions: int


class Republish(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Publish a page of a cluster's unsettled operations again; ``after`` is what the page before answered."""

    cluster: str
    after: tuple[str, int] | None = None


class Compare(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compare store and hypervisor; ``write`` writes down what was found."""

    cluster: str
    write: bool = False


class Read(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a worker: of a cluster, or of the cluster of an instance whose id then joins the arguments."""

    name: str
    arguments: dict[str, Any] = {}
    cluster: str | None = None
    instance: str | None = None
    revision: int = 1
    caller: Caller = Caller.COMMAND


class ByWorker(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker."""

    worker: str


class OneWorker(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker of one cluster, which need not be there yet."""

    cluster: str
    worker: str


class GrantWorker(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A broker user for one worker."""

    cluster: str
    worker: str
    user: str


class ByOperations(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several operations."""

    operations: list[str]


class AddToken(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take up a token of which the caller keeps the secret."""

    id: str
    name: str
    digest: str
    role: Role
    lifetime_seconds: float
    clusters: tuple[str, ...] | None = None
    created_by: str | None = None


class ListAudit(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records of the audit log, newest first."""

    actor: str | None = None
    cluster: str | None = None
    action: str | None = None
    before: str | None = None
    limit: int = 100


class OneNode(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node of one cluster."""

    cluster: str
    node: str


class ByToken(Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token by its id."""

    token: str
