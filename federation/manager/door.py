"""The manager's use cases by name, with plain arguments and plain replies, for whatever carries them.

The command line calls it in its own process or over the bus; the REST interface calls the use cases directly.  Every
reply is a QueryReply: a result in builtin types, or an error of the catalogue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from federation.contract.errors import InvalidRequest, OperationError, Unavailable
from federation.manager.manager import Manager
from federation.manager.operating import Resolution
from federation.manager.showing import without_secrets
from federation.manager.submitting import Submission
from federation.protocol.admission import Announcement, Departure, Heartbeat
from federation.protocol.errors import StoreUnavailable
from federation.protocol.queries import QueryReply, error_on_wire
from federation.protocol.records import OperationState

log = logging.getLogger(__name__)


class _Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of one method."""


class Nothing(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No arguments."""


class Submit(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accept an operation; ``instance`` may be an id or a name."""

    name: str
    arguments: dict[str, Any] = {}
    instance: str | None = None
    cluster: str | None = None
    revision: int = 1
    deadline_seconds: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None


class ByOperation(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operation."""

    operation: str


class ListOperations(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Operations, newest first."""

    cluster: str | None = None
    instance: str | None = None
    state: OperationState | None = None
    before: str | None = None
    limit: int = 100


class ByInstance(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance by id or name."""

    instance: str
    cluster: str | None = None


class ListInstances(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of instances."""

    cluster: str | None = None
    after: str | None = None
    limit: int = 100


class Resolve(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resolve a parked instance."""

    instance: str
    resolution: Resolution
    cluster: str | None = None
    requested_by: str | None = None


class ByCluster(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster."""

    cluster: str


class MaybeCluster(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster or all."""

    cluster: str | None = None


class CreateCluster(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a cluster."""

    cluster: str
    driver: str
    partitions: int | None = None


class Read(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a worker: of a cluster, or of the cluster of an instance whose id then joins the arguments."""

    name: str
    arguments: dict[str, Any] = {}
    cluster: str | None = None
    instance: str | None = None
    revision: int = 1


class ByWorker(_Params, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker."""

    worker: str


class ManagerDoor:
    """What people may ask of a manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        m = manager
        self._methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]] = {
            "submit": (Submit, self._submit),
            "operation": (ByOperation, lambda p: m.operating.operation(p.operation)),
            "operations": (ListOperations, self._operations),
            "cancel": (ByOperation, lambda p: m.operating.cancel(p.operation)),
            "resolve": (Resolve, self._resolve),
            "instance": (ByInstance, lambda p: m.estate.instance(p.instance, p.cluster)),
            "instances": (ListInstances, lambda p: m.estate.instances(p.cluster, p.after, p.limit)),
            "read": (Read, self._read),
            "clusters": (Nothing, lambda _: m.estate.clusters()),
            "create_cluster": (CreateCluster, lambda p: m.estate.create_cluster(p.cluster, p.driver, p.partitions)),
            "remove_cluster": (ByCluster, lambda p: m.estate.remove_cluster(p.cluster)),
            "refresh_cluster": (ByCluster, lambda p: m.estate.refresh_cluster(p.cluster)),
            "nodes": (MaybeCluster, lambda p: m.estate.nodes(p.cluster)),
            "workers": (MaybeCluster, lambda p: m.admitting.workers(p.cluster)),
            "drain_worker": (ByWorker, lambda p: m.admitting.drain(p.worker)),
            "counts": (Nothing, lambda _: m.operating.counts()),
        }

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one method; never raises.  What comes out holds no secrets of a request."""
        return _answer(self._methods, method, arguments, without_secrets)

    def _submit(self, p: Submit) -> object:
        arguments, cluster = dict(p.arguments), p.cluster
        if p.instance is not None:
            record = self._manager.estate.instance(p.instance, p.cluster)
            arguments["instance"], cluster = record.id, record.cluster
        return self._manager.submitting.submit(
            Submission(
                name=p.name,
                arguments=arguments,
                cluster=cluster,
                revision=p.revision,
                deadline_seconds=p.deadline_seconds,
                idempotency_key=p.idempotency_key,
                requested_by=p.requested_by,
            )
        )

    def _operations(self, p: ListOperations) -> object:
        return self._manager.operating.operations(
            cluster=p.cluster, key=p.instance, state=p.state, before=p.before, limit=p.limit
        )

    def _resolve(self, p: Resolve) -> object:
        record = self._manager.estate.instance(p.instance, p.cluster)
        return self._manager.operating.resolve(record.id, p.resolution, p.requested_by)

    def _read(self, p: Read) -> object:
        arguments, cluster = dict(p.arguments), p.cluster
        if p.instance is not None:
            record = self._manager.estate.instance(p.instance, p.cluster)
            arguments["instance"], cluster = record.id, record.cluster
        if cluster is None:
            message = f"{p.name}: cluster is missing"
            raise InvalidRequest(message, field="cluster")
        return self._manager.estate.query(cluster, p.name, arguments, p.revision)


class AdmissionDoor:
    """What workers may ask of a manager."""

    def __init__(self, manager: Manager) -> None:
        admitting = manager.admitting
        self._methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]] = {
            "admit": (Announcement, admitting.admit),
            "heartbeat": (Heartbeat, admitting.heartbeat),
            "leave": (Departure, admitting.leave),
        }

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one method; never raises."""
        return _answer(self._methods, method, arguments)


def _answer(
    methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]],
    method: str,
    arguments: dict[str, Any],
    show: Callable[[Any], Any] = lambda value: value,
) -> dict[str, Any]:
    try:
        reply = QueryReply(result={"value": show(msgspec.to_builtins(_carry_out(methods, method, arguments)))})
    except OperationError as error:
        reply = QueryReply(error=error_on_wire(error))
    except StoreUnavailable as error:
        reply = QueryReply(error=error_on_wire(Unavailable(f"the manager's store does not answer: {error}")))
    except Exception as error:
        log.exception("%.80r failed: a defect of the manager", method)
        message = f"the manager failed to carry out {method!r} ({type(error).__name__}); its log says more"
        reply = QueryReply(error=error_on_wire(Unavailable(message)))
    result: dict[str, Any] = msgspec.to_builtins(reply)
    return result


def _carry_out(
    methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]], method: str, arguments: dict[str, Any]
) -> object:
    known = methods.get(method)
    if known is None:
        message = f"method {method!r} is not known; known are: {', '.join(sorted(methods))}"
        raise InvalidRequest(message, field="method", value=method)
    kind, use_case = known
    try:
        parameters = msgspec.convert(arguments, kind, strict=True)
    except msgspec.ValidationError as error:
        message = f"{method}: {error}"
        raise InvalidRequest(message, method=method) from error
    return use_case(parameters)
