"""What an outcome means for the manager's record of the instance, or of the node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.showing import without_secrets
from federation.manager.store_ports import Transaction
from federation.protocol.ordering_key import node_of
from federation.protocol.records import InstanceRecord, NodeRecord, OperationRecord

_BUILDING = "building"
_FAILED = "failed"


def observe(
    transaction: Transaction, operation: OperationRecord, outcome: Outcome, now: float
) -> InstanceRecord | None:
    """Write what the outcome says of the instance; returns the record, None when there is none (any more)."""
    return observe_all(transaction, [(operation, outcome)], now).get(operation.key)


def observe_all(
    transaction: Transaction, settled: Iterable[tuple[OperationRecord, Outcome]], now: float
) -> dict[str, InstanceRecord]:
    """Write what these outcomes, in this order, say of their instances; returns those that there still are, by id."""
    settled = list(settled)
    there = transaction.locked_instances({operation.key for operation, _ in settled})
    changed: set[str] = set()
    for operation, outcome in settled:
        if outcome.kind is not OutcomeKind.UNKNOWN:  # one that is not known may have to be sent again
            forget_secrets(transaction, operation)
        record = there.get(operation.key)
        if record is None:
            _observe_node(transaction, operation, outcome, now)
            continue
        if _is_gone(operation, outcome):
            transaction.remove_instance(record.id)
            del there[record.id]
            continue
        there[record.id] = _after(record, operation, outcome, now)
        if there[record.id] is not record:
            changed.add(record.id)
    transaction.save_observed(there[each] for each in changed if each in there)
    return there


def forget_secrets(transaction: Transaction, operation: OperationRecord) -> None:
    """Nobody needs the passwords and user data of an operation that will not be sent again."""
    kept = without_secrets(operation.arguments)
    if kept != operation.arguments:
        transaction.keep_arguments(operation.id, kept)


def _is_gone(operation: OperationRecord, outcome: Outcome) -> bool:
    """What was destroyed, and what was to be taken over and was not: nothing of it is ours."""
    if outcome.kind is OutcomeKind.SUCCEEDED:
        return operation.name == "destroy"
    return operation.name == "adopt" and outcome.kind is not OutcomeKind.UNKNOWN


def _observe_node(transaction: Transaction, operation: OperationRecord, outcome: Outcome, now: float) -> None:
    """A node's operation answers with the node as it is now; the inventory need not wait for the next look."""
    place = node_of(operation.key)
    if place is None or outcome.kind is not OutcomeKind.SUCCEEDED or not outcome.result:
        return
    cluster, name = place
    if outcome.result.get("name") == name:
        transaction.save_node(NodeRecord(cluster=cluster, name=name, facts=outcome.result, seen_at=now))


def _after(record: InstanceRecord, operation: OperationRecord, outcome: Outcome, now: float) -> InstanceRecord:
    replace = msgspec.structs.replace
    if outcome.kind is OutcomeKind.UNKNOWN:
        return replace(record, parked_by=operation.id, updated_at=now)
    if outcome.kind is OutcomeKind.SUCCEEDED and outcome.result and "power_state" in outcome.result:
        return replace(record, **_seen(record, outcome.result), updated_at=now)
    if operation.name == "create":
        return replace(record, state=_FAILED, updated_at=now)
    if operation.name == "resize":
        return replace(record, **_seen(record, record.observed or {}), updated_at=now)
    return record


def _seen(record: InstanceRecord, result: dict[str, Any]) -> dict[str, Any]:
    """The fields of the record that an observed Instance determines."""
    if not result:
        return {}
    return {
        "observed": result,
        "state": result.get("power_state", record.state),
        "node": result.get("node", record.node),
        "vcpus": result.get("vcpus") or record.vcpus,
        "memory_bytes": result.get("memory_bytes") or record.memory_bytes,
    }
