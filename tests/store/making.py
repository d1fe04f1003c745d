"""Records for the store's tests, and a wall clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import uuid_utils
from sqlalchemy import delete

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.lease import Stamp
from federation.protocol.ledger import KeyFacts, OperationFacts, settle
from federation.protocol.records import (
    AuditRecord,
    ClusterRecord,
    InstanceRecord,
    NewOperation,
    NodeRecord,
    OldEpoch,
    Role,
    SavedReply,
    TokenRecord,
    WorkerGrant,
    WorkerRecord,
    WorkerState,
)
from federation.store import SqlStore, SqlTransaction
from federation.store.tables import METADATA

ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)

CLUSTER = "kvm-1"
SHARDS = range(32)
SUCCEEDED = Outcome(kind=OutcomeKind.SUCCEEDED, result={"power_state": "running"})
UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="outcome_unknown", message="nobody saw it end")


@dataclass
class Wall:
    """Seconds since the Unix epoch, moved by hand."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def new_id() -> str:
    return str(uuid_utils.uuid7())


def new_operation(key: str = "instance-1", **changes: Any) -> NewOperation:
    fields: dict[str, Any] = {
        "id": new_id(),
        "cluster": CLUSTER,
        "epoch": 1,
        "name": "power_on",
        "revision": 1,
        "release": "1.0",
        "key": key,
        "partition": 7,
        "shard": 9,
        "arguments": {"instance": key, "options": {"fast": True, "sizes": [1, 2**40], "name": "ü\x00"}},
        "submitted_at": 1_700_000_000.0,
    }
    return NewOperation(**{**fields, **changes})


def cluster(name: str = CLUSTER, **changes: Any) -> ClusterRecord:
    fields: dict[str, Any] = {"driver": "simulated", "partitions": 32, "created_at": 5.0}
    return ClusterRecord(name=name, **{**fields, **changes})


def worker(id_: str = "w1", **changes: Any) -> WorkerRecord:
    fields: dict[str, Any] = {
        "cluster": CLUSTER,
        "driver": "simulated",
        "driver_version": "0.1.0",
        "release_lowest": "1.0",
        "release_highest": "1.0",
        "capabilities": {"flags": ["reboot"], "limits": {"max_vcpus": 4}},
        "state": WorkerState.ADMITTED,
        "host": "somewhere",
        "pid": 12,
        "admitted_at": 10.0,
        "last_seen": 10.0,
        "load": {"running": 2.0},
    }
    return WorkerRecord(id=id_, **{**fields, **changes})


def instance(id_: str = "i1", name: str = "vm", **changes: Any) -> InstanceRecord:
    fields: dict[str, Any] = {
        "cluster": CLUSTER,
        "node": "node-1",
        "vcpus": 2,
        "memory_bytes": 1 << 33,
        "spec": {"name": name, "disks": [{"size": 1 << 40}]},
        "state": "building",
    }
    return InstanceRecord(id=id_, name=name, **{**fields, **changes})


def granted(facts: OperationFacts, question: str = "q1", worker_id: str = "w1") -> OperationFacts:
    """The facts after one more grant."""
    return replace(
        facts,
        attempt=facts.attempt + 1,
        granted_copy=(facts.round, 2),
        granted_question=question,
        granted_wait=1.5,
        worker=worker_id,
        last_answer=Stamp("boot-1", 77.25),
    )


def settle_head(transaction: SqlTransaction, key: str, outcome: Outcome = SUCCEEDED, now: float = 20.0) -> str:
    """Settle the operation at the head of a key, as the manager does; returns its id."""
    facts: KeyFacts = transaction.keys([key])[key]
    head = transaction.unsettled(key)[0]
    settlement = settle(facts, head, outcome, Stamp("boot-1", now))
    transaction.save([settlement.key], [settlement.operation], {head.id: outcome}, now)
    return head.id


TOKEN = TokenRecord(id="f" * 32, name="ops", digest="0" * 64, role=Role.ADMIN, expires_at=9e9)


def fill(store: SqlStore, keys: str = "abc") -> None:
    """Something in every table but those of living managers."""
    with store.transaction() as transaction:
        transaction.save_worker(worker())
        transaction.save_worker(worker("w2", state=WorkerState.LEFT, waiting_since=11.0))
        transaction.save_nodes(CLUSTER, [NodeRecord(cluster=CLUSTER, name="n1", facts={"ü": [1, None]}, seen_at=3.5)])
        transaction.add_token(TOKEN)
        reply = SavedReply(token=TOKEN.id, idempotency_key="k", fingerprint="f", status=202, body="{}", created_at=1.0)
        transaction.save_reply(reply)
        transaction.save_worker_grant(WorkerGrant(user="u", cluster=CLUSTER, worker="w1", granted_at=1.0))
        for key in keys:
            transaction.add_instance(instance(key, f"vm-{key}"))
            transaction.accept(new_operation(key, arguments={"instance": key, "password": "hunter2"}))
            transaction.accept(new_operation(key))
        settle_head(transaction, keys[0])
        transaction.add_audit(AuditRecord(id="1", at=1.0, actor="token ops", action="create", result="accepted"))
        transaction.add_old_epoch(OldEpoch(cluster=CLUSTER, epoch=1, partitions=2, closed_at=4.0))


def wipe(store: SqlStore) -> None:
    """Empty every table."""
    with store.transaction() as transaction:
        for table in reversed(METADATA.sorted_tables):
            transaction._execute(delete(table))
