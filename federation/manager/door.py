"""The manager's use cases by name, with plain arguments and plain replies, for whatever carries them.

The command line calls it in its own process or over the bus, the REST interface in the manager's process.  Every reply is a QueryReply: a result in builtin types, or an error of the catalogue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from federation.contract.errors import InvalidRequest, OperationError, Unavailable
from federation.contract.operations import DECLARED
from federation.manager.auditing import ACCEPTED, NOBODY, Asker
from federation.manager.door_requests import (
    AddToken,
    ByCluster,
    ByInstance,
    ByOperation,
    ByOperations,
    ByToken,
    ByWorker,
    Compare,
    CreateCluster,
    GrantWorker,
    ListAudit,
    ListInstances,
    ListOperations,
    MaybeCluster,
    Nothing,
    OneNode,
    OneWorker,
    Read,
    Repartition,
    Republish,
    Resolve,
    Submit,
)
from federation.manager.manager import Manager
from federation.manager.showing import without_secrets
from federation.manager.submission import Submission
from federation.protocol.admission import Announcement, Departure, Heartbeat, without_unknown_flags
from federation.protocol.errors import StoreUnavailable
from federation.protocol.ordering_key import node_key
from federation.protocol.queries import QueryReply, error_on_wire
from federation.protocol.records import TokenRecord

log = logging.getLogger(__name__)


_CONSOLES = frozenset(operation.name for operation in DECLARED if operation.group == "console")

_CHANGING = frozenset(
    {
        "submit", "cancel", "resolve", "create_cluster", "remove_cluster", "repartition", "take_back_repartition",
        "republish", "compare_cluster", "drain_worker", "grant_worker", "revoke_worker", "add_token", "revoke_token",
        "forget_node",
    }
)  # fmt: skip
"""Every method that changes something: it leaves a record in the audit log."""


class ManagerDoor:
    """What people may ask of a manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        m = manager
        self._methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]] = {
            "submit": (Submit, self._submit),
            "operation": (ByOperation, lambda p: m.operating.operation(p.operation)),
            "operations": (ListOperations, self._operations),
            "watched": (ByOperations, lambda p: m.operating.watched(p.operations)),
            "cancel": (ByOperation, lambda p: m.operating.cancel(p.operation)),
            "resolve": (Resolve, self._resolve),
            "instance": (ByInstance, lambda p: m.estate.instance(p.instance, p.cluster)),
            "instances": (ListInstances, lambda p: m.estate.instances(p.cluster, p.after, p.limit)),
            "read": (Read, self._read),
            "clusters": (Nothing, lambda _: m.estate.clusters()),
            "create_cluster": (CreateCluster, lambda p: m.estate.create_cluster(p.cluster, p.driver, p.partitions)),
            "remove_cluster": (ByCluster, lambda p: m.estate.remove_cluster(p.cluster)),
            "repartition": (Repartition, lambda p: m.epochs.repartition(p.cluster, p.partitions)),
            "take_back_repartition": (ByCluster, lambda p: m.epochs.take_back(p.cluster)),
            "epoch": (ByCluster, lambda p: m.epochs.facts(p.cluster)),
            "republish": (Republish, lambda p: m.epochs.republish(p.cluster, p.after)),
            "compare_cluster": (Compare, lambda p: m.comparing.compare(p.cluster, write=p.write)),
            "refresh_cluster": (ByCluster, lambda p: m.estate.refresh_cluster(p.cluster)),
            "nodes": (MaybeCluster, lambda p: m.estate.nodes(p.cluster)),
            "workers": (MaybeCluster, lambda p: m.admitting.workers(p.cluster)),
            "drain_worker": (ByWorker, lambda p: m.admitting.drain(p.worker)),
            "grant_worker": (GrantWorker, lambda p: m.granting.grant(p.cluster, p.worker, p.user)),
            "revoke_worker": (OneWorker, lambda p: m.granting.revoke(p.cluster, p.worker)),
            "worker_grants": (MaybeCluster, lambda p: m.granting.grants(p.cluster)),
            "add_token": (AddToken, self._add_token),
            "tokens": (Nothing, lambda _: [_shown(token) for token in m.access.tokens()]),
            "revoke_token": (ByToken, lambda p: _shown(m.access.revoke(p.token))),
            "audit": (ListAudit, self._audit),
            "forget_node": (OneNode, lambda p: m.estate.forget_node(p.cluster, p.node)),
            "counts": (Nothing, lambda _: m.operating.counts()),
            "figures": (MaybeCluster, lambda p: m.measuring.figures(p.cluster)),
            "counters": (Nothing, lambda _: m.figures()),
        }

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out one method; never raises.  What comes out holds no secrets of a request.

        A console's ticket and password are for who asks for it, and open nothing else.

        ``asked`` among the arguments says who asks, for the audit log.
        """
        told = {name: value for name, value in arguments.items() if name != "asked"}
        asked = _asked(arguments.get("asked"), told.get("requested_by"))
        name = told.get("name")
        opens = method == "read" and isinstance(name, str) and name in _CONSOLES
        if not opens and (method not in _CHANGING or (method == "compare_cluster" and not told.get("write"))):
            return _answer(self._methods, method, told, without_secrets)
        methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]]
        methods = {**self._methods, "submit": (Submit, partial(self._submit, asked=asked))}
        reply = _answer(methods, method, told, _as_it_is if opens else without_secrets)
        code = (reply.get("error") or {}).get("code")
        if code is not None or method != "submit":  # an accepted operation was written down with its acceptance
            self._manager.auditing.changed(asked, method, told, ACCEPTED if code is None else code)
        return reply

    def _submit(self, p: Submit, asked: Asker = NOBODY) -> object:
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
                caller=p.caller,
                asked=asked,
            )
        )

    def _add_token(self, p: AddToken) -> object:
        told = {name: value for name, value in msgspec.structs.asdict(p).items() if name != "lifetime_seconds"}
        return _shown(self._manager.access.add(TokenRecord(**told), p.lifetime_seconds))

    def _audit(self, p: ListAudit) -> object:
        return self._manager.auditing.records(
            actor=p.actor, cluster=p.cluster, action=p.action, before=p.before, limit=p.limit
        )

    def _operations(self, p: ListOperations) -> object:
        key = p.instance if p.node is None else _key_of_node(p.cluster, p.node)
        return self._manager.operating.operations(
            cluster=p.cluster, key=key, state=p.state, before=p.before, limit=p.limit
        )

    def _resolve(self, p: Resolve) -> object:
        if (p.instance is None) == (p.node is None):
            message = "resolve: give either an instance or a node"
            raise InvalidRequest(message, field="instance")
        if p.node is not None:
            return self._manager.operating.resolve(_key_of_node(p.cluster, p.node), p.resolution, p.requested_by)
        record = self._manager.estate.instance(str(p.instance), p.cluster)
        return self._manager.operating.resolve(record.id, p.resolution, p.requested_by)

    def _read(self, p: Read) -> object:
        arguments, cluster = dict(p.arguments), p.cluster
        if p.instance is not None:
            record = self._manager.estate.instance(p.instance, p.cluster)
            arguments["instance"], cluster = record.id, record.cluster
        if cluster is None:
            message = f"{p.name}: cluster is missing"
            raise InvalidRequest(message, field="cluster")
        return self._manager.reading.query(cluster, p.name, arguments, p.revision, p.caller)


class AdmissionDoor:
    """What workers may ask of a manager."""

    def __init__(self, manager: Manager) -> None:
        admitting = manager.admitting
        self._granting = manager.granting
        self._methods: dict[str, tuple[type[msgspec.Struct], Callable[[Any], object]]] = {
            "admit": (Announcement, admitting.admit),
            "heartbeat": (Heartbeat, admitting.heartbeat),
            "leave": (Departure, admitting.leave),
        }

    def call(self, method: str, arguments: dict[str, Any], user: str | None = None) -> dict[str, Any]:
        """Carry out one method for a broker user, as the broker has checked it; never raises."""
        if method == "admit" and isinstance(arguments.get("description"), dict):
            arguments = {**arguments, "description": without_unknown_flags(arguments["description"])}

        def checked(use_case: Callable[[Any], object], message: Any) -> object:
            self._granting.check(user, message.cluster, message.worker)
            return use_case(message)

        methods = {name: (kind, partial(checked, use_case)) for name, (kind, use_case) in self._methods.items()}
        return _answer(methods, method, arguments)


def _asked(told: object, requested_by: object) -> Asker:
    """Who asks, as the way in says; an older command line says it of operations only."""
    try:
        return msgspec.convert(told, Asker, strict=True)
    except msgspec.ValidationError:
        return Asker(by=requested_by[:200]) if isinstance(requested_by, str) and requested_by else NOBODY


def _shown(token: TokenRecord) -> dict[str, Any]:
    """A token as people see it: nobody needs its digest."""
    return {name: value for name, value in msgspec.structs.asdict(token).items() if name != "digest"}


def _key_of_node(cluster: str | None, node: str) -> str:
    if cluster is None:
        message = f"the cluster of node {node!r} is missing: names of nodes are unique only within their cluster"
        raise InvalidRequest(message, field="cluster")
    return node_key(cluster, node)


def _as_it_is(value: Any) -> Any:
    return value


def _answer(
    methods: Mapping[str, tuple[type[msgspec.Struct], Callable[[Any], object]]],
    method: str,
    arguments: dict[str, Any],
    show: Callable[[Any], Any] = _as_it_is,
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
    methods: Mapping[str, tuple[type[msgspec.Struct], Callable[[Any], object]]], method: str, arguments: dict[str, Any]
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
