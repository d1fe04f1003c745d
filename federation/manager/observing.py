"""What an outcome means for the manager's record of the instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.ports import Transaction
from federation.protocol.records import InstanceRecord, OperationRecord

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
        record = there.get(operation.key)
        if record is None:
            continue
        if outcome.kind is OutcomeKind.SUCCEEDED and operation.name == "destroy":
            transaction.remove_instance(record.id)
            del there[record.id]
            continue
        there[record.id] = _after(record, operation, outcome, now)
        if there[record.id] is not record:
            changed.add(record.id)
    transaction.save_observed(there[each] for each in changed if each in there)
    return there


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
        "vcpus": result.get("vcpus", record.vcpus),
        "memory_bytes": result.get("memory_bytes", record.memory_bytes),
    }
