"""A manager on a real SQLite store, with a bus that a test holds in its hand and a clock that it moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from federation.contract.adapters import REVISIONS, Revisions
from federation.contract.capabilities import Capabilities, Capability
from federation.contract.capabilities import Limits as CapabilityLimits
from federation.contract.errors import Unavailable
from federation.contract.nodes import Description, Node
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.manager import Manager, ManagerBus
from federation.manager.ports import Leftover
from federation.manager.settings import ManagerSettings
from federation.manager.submission import Submission
from federation.protocol.admission import Announcement
from federation.protocol.answer_table import Limits
from federation.protocol.envelope import Answer, Command, Question, Report
from federation.protocol.lease import LeaseTerms, Stamp
from federation.protocol.records import NodeRecord, OperationRecord
from federation.store import SqlStore

CLUSTER = "lab"
GIB = 1 << 30


class ManualClock:
    """Wall time that runs and a lease clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def stamp(self) -> Stamp:
        return Stamp("test", self.seconds)

    def wall(self) -> float:
        return time.time()


@dataclass
class Bus:
    """Every port of the manager's bus: keeps what was sent; confirms at once unless told to wait or to fail."""

    published: list[Command] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    acknowledged: list[Any] = field(default_factory=list)
    declared: list[tuple[str, int, int]] = field(default_factory=list)
    retired: list[tuple[str, int, int]] = field(default_factory=list)
    restored: list[tuple[str, int, int]] = field(default_factory=list)
    left: list[tuple[str, int, int]] = field(default_factory=list)
    deleted: list[tuple[str, int, int]] = field(default_factory=list)
    leftovers: Leftover = field(default_factory=lambda: Leftover(0, 0))
    waiting: list[Callable[[bool], None]] = field(default_factory=list)
    verdict: bool | None = True
    reply: dict[str, object] | None = None
    asked: list[tuple[str, int, dict[str, object]]] = field(default_factory=list)

    def publish(self, command: Command, on_settled: Callable[[bool], None]) -> None:
        self.published.append(command)
        if self.verdict is None:
            self.waiting.append(on_settled)
        else:
            on_settled(self.verdict)

    def confirm(self, *, certain: bool) -> None:
        """Settle the publication that waits longest."""
        self.waiting.pop(0)(certain)

    def answer(self, _cluster: str, worker: str, answer: Answer) -> None:
        self.answers.append((worker, answer))

    def query(self, cluster, name, revision, arguments, timeout) -> dict[str, object]:
        self.asked.append((name, revision, arguments))
        if self.reply is None:
            message = "no worker answers"
            raise Unavailable(message)
        return self.reply

    def declare(self, cluster: str, epoch: int, partitions: int) -> None:
        self.declared.append((cluster, epoch, partitions))

    def retire(self, cluster: str, epoch: int, partitions: int) -> None:
        self.retired.append((cluster, epoch, partitions))

    def restore(self, cluster: str, epoch: int, partitions: int) -> None:
        self.restored.append((cluster, epoch, partitions))

    def leave(self, cluster: str, epoch: int, partitions: int) -> None:
        self.left.append((cluster, epoch, partitions))

    def leftover(self, cluster: str, epoch: int, partitions: int) -> Leftover:
        return self.leftovers

    def delete(self, cluster: str, epoch: int, partitions: int) -> None:
        self.deleted.append((cluster, epoch, partitions))

    def ack(self, held: Any) -> None:
        self.acknowledged.append(held)

    def close(self, timeout: float) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class HeldResult:
    """A message from the results queues."""

    result: Question | Report | None
    error: str | None = None
    user_id: str | None = None


class World:
    """A started manager and everything that a test asks of it."""

    def __init__(self, store: SqlStore, *, revisions: Revisions = REVISIONS, **settings: Any) -> None:
        self.bus = Bus()
        self.clock = ManualClock()
        self.store = store
        terms = LeaseTerms(lease=6.0, margin=1.0)
        numbers = {"id": "m1", "limits": Limits(terms=terms), "outbox_poll": 0.05, "publish_retry": 0.02, **settings}
        self.manager = Manager(
            store, ManagerBus(self.bus, self.bus, self.bus, self.bus), ManagerSettings(**numbers), self.clock, revisions
        )
        self.questions = 0

    def start(self) -> None:
        self.manager.start(self.bus)
        self.until(lambda: len(self.manager.publisher.shards) == 32)

    def furnish(self, flags: frozenset[Capability] = frozenset(Capability), partitions: int = 4, **node: Any) -> None:
        """A cluster with one worker and one node."""
        self.manager.estate.create_cluster(CLUSTER, "simulated", partitions)
        self.manager.admitting.admit(announcement(flags=flags))
        self.set_nodes(make_node(**node))

    def set_nodes(self, *nodes: Node) -> None:
        records = [NodeRecord(cluster=CLUSTER, name=n.name, facts=msgspec.to_builtins(n), seen_at=1.0) for n in nodes]
        with self.store.transaction() as transaction:
            transaction.save_nodes(CLUSTER, records)

    def create(self, name: str = "web-1", **changes: Any) -> OperationRecord:
        spec = {
            "name": name,
            "flavour": {"vcpus": 1, "memory_bytes": GIB},
            "boot": {"kind": "template", "template": "debian"},
            **changes.pop("spec", {}),
        }
        return self.submit("create", arguments={"spec": spec}, cluster=CLUSTER, **changes)

    def submit(self, name: str, **submission: Any) -> OperationRecord:
        return self.manager.submitting.submit(Submission(name=name, **submission))

    def change(self, name: str, instance: str, **arguments: Any) -> OperationRecord:
        return self.submit(name, arguments={"instance": instance, **arguments})

    def ask(self, operation: OperationRecord, worker: str = "w1", **changes: Any) -> Answer:
        """Ask as a worker would, and wait for the answer."""
        return self.put_question(question_of(self.record(operation), self.next_id(), worker, **changes))

    def put_question(self, question: Question) -> Answer:
        before = len(self.bus.answers)
        self.manager.results.on_result(HeldResult(question))
        self.until(lambda: len(self.bus.answers) > before)
        return self.bus.answers[-1][1]

    def report(self, operation: OperationRecord, outcome: Outcome, attempt: int = 1, worker: str = "w1") -> None:
        """Report as a worker would, and wait until it was acknowledged."""
        held = HeldResult(report_of(self.record(operation), outcome, attempt, worker))
        self.manager.results.on_result(held)
        self.until(lambda: held in self.bus.acknowledged)

    def carry_out(self, operation: OperationRecord, power_state: str = "running") -> None:
        """Grant it and let it succeed."""
        assert self.ask(operation).verdict == "grant"
        self.report(operation, seen(self.record(operation), power_state))

    def record(self, operation: OperationRecord) -> OperationRecord:
        return self.manager.operating.operation(operation.id)

    def next_id(self) -> str:
        self.questions += 1
        return f"q{self.questions}"

    def until(self, look: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for an observed condition."""
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, "the condition was not observed in time"
            time.sleep(0.002)


def announcement(
    worker: str = "w1", flags: frozenset[Capability] = frozenset(Capability), **changes: Any
) -> Announcement:
    description = Description(
        driver=changes.pop("driver", "simulated"),
        driver_version="1",
        releases=changes.pop("releases", ("1.0", "1.0")),
        capabilities=Capabilities(flags=flags, limits=changes.pop("limits", CapabilityLimits())),
    )
    fields = {"worker": worker, "cluster": CLUSTER, "host": "h", "pid": 1, "max_operations": 4, **changes}
    return Announcement(description=description, **fields)


def make_node(name: str = "n1", **changes: Any) -> Node:
    facts: dict[str, Any] = {
        "reachable": True,
        "accepts_instances": True,
        "vcpus_total": 8,
        "vcpus_used": 0,
        "memory_bytes_total": 64 * GIB,
        "memory_bytes_used": 0,
        "storage_bytes_total": 0,
        "storage_bytes_used": 0,
        "instances": 0,
    }
    return Node(name=name, **{**facts, **changes})


def question_of(record: OperationRecord, identity: str, worker: str = "w1", **changes: Any) -> Question:
    facts: dict[str, Any] = {
        "id": identity,
        "worker": worker,
        "cluster": record.cluster,
        "partition": record.partition,
        "operation": record.id,
        "key": record.key,
        "sequence": record.sequence,
        "round": record.round,
        "delivery_count": 0,
    }
    return Question(**{**facts, **changes})


def copy_of(record: OperationRecord, **changes: Any) -> Command:
    """A copy of it, as it was published."""
    facts: dict[str, Any] = {
        "operation": record.id,
        "name": record.name,
        "revision": record.revision,
        "release": record.release,
        "cluster": record.cluster,
        "epoch": 1,
        "partition": record.partition,
        "key": record.key,
        "sequence": record.sequence,
        "round": record.round,
        "deadline": record.deadline,
        "arguments": record.arguments,
    }
    return Command(**{**facts, **changes})


def report_of(record: OperationRecord, outcome: Outcome, attempt: int, worker: str) -> Report:
    return Report(
        worker=worker,
        cluster=record.cluster,
        partition=record.partition,
        operation=record.id,
        key=record.key,
        sequence=record.sequence,
        attempt=attempt,
        outcome=outcome,
    )


def seen(record: OperationRecord, power_state: str) -> Outcome:
    instance = {
        "id": record.key,
        "name": "web-1",
        "node": "n1",
        "power_state": power_state,
        "vcpus": 1,
        "memory_bytes": GIB,
    }
    return Outcome(kind=OutcomeKind.SUCCEEDED, result=instance)


def failed(code: str, kind: OutcomeKind = OutcomeKind.FAILED) -> Outcome:
    return Outcome(kind=kind, code=code, message="said the hypervisor")
