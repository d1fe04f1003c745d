"""A small real world for the worker: a broker's partitions in memory, and a manager that answers by the real table."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from federation.contract.capabilities import Capabilities, Capability
from federation.contract.instances import Instance, PowerState
from federation.contract.nodes import Description
from federation.contract.operations import DECLARED, find
from federation.contract.outcomes import Outcome
from federation.contract.requests import Empty
from federation.protocol.admission import Admission, HeartbeatAnswer
from federation.protocol.answer_table import Case, Limits, answer
from federation.protocol.envelope import Answer, Command, Progress, Question, Report
from federation.protocol.lease import LeaseTerms, Stamp
from federation.protocol.ledger import Dropped, KeyFacts, OperationFacts, apply_report
from federation.protocol.partition_map import partition_of
from federation.worker.boundary import Served
from federation.worker.drivers import OpenDriver, served_by
from federation.worker.errors import Unavailable
from federation.worker.ports import Ports
from federation.worker.redaction import Redactor
from federation.worker.settings import WorkerSettings
from federation.worker.worker import Worker

INSTANCE = "11111111-1111-4111-8111-{:012d}"
FAST = LeaseTerms(0.3, 0.06)


def key(number: int) -> str:
    return INSTANCE.format(number)


def eventually(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Watch a condition until it holds; fails after a deadline."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"within {seconds} s not seen: {what}")
        time.sleep(0.002)


def an_instance(instance: str) -> Instance:
    return Instance(id=instance, name="vm", node="n1", power_state=PowerState.RUNNING, vcpus=1, memory_bytes=1 << 28)


class TinyDriver:
    """Does, for every operation, what the test's ``act(call, request)`` does; returns a fitting result unless it does."""

    def __init__(self, act: Callable[..., object] = lambda _call, _request: None) -> None:
        self.act = act
        self.closed = False
        for operation in DECLARED:
            setattr(self, operation.name, self._method(operation.name))

    def _method(self, name: str) -> Callable[..., object]:
        def method(call, request):
            result = self.act(call, request)
            if result is not None:
                return result
            return Empty() if find(name).result is Empty else an_instance(getattr(request, "instance", key(0)))

        return method

    def description(self) -> Description:
        return Description(
            driver="tiny",
            driver_version="1.2.3",
            releases=("1.0", "1.0"),
            capabilities=Capabilities(flags=frozenset(Capability)),
        )

    def close(self) -> None:
        self.closed = True


def opened(driver: TinyDriver, secrets: tuple[str, ...] = ()) -> OpenDriver:
    description = driver.description()
    served: Served = served_by(description)
    return OpenDriver(driver, served, description, Redactor(secrets))


class IoThread:
    """Runs what is posted, in order, as a bus's I/O thread does; notes how long it was ever held up."""

    def __init__(self) -> None:
        self._posts: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run, name="scripted io", daemon=True)
        self._thread.start()

    def post(self, act: Callable[[], None]) -> None:
        self._posts.put(act)

    def close(self) -> None:
        self._posts.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while (act := self._posts.get()) is not None:
            began = time.monotonic()
            act()
            self.longest = max(self.longest, time.monotonic() - began)


@dataclass(eq=False)
class Copy:
    """A message in a partition; also what the worker holds of it."""

    command: Command | None
    partition: int
    delivery_count: int = 0
    error: str | None = None


@dataclass(eq=False)
class Consumer:
    """The worker's side of one channel."""

    world: "World"
    admission: Admission
    on_command: Callable[[Copy], None]
    on_lost: Callable[[str, int | None], None]
    held: list[Copy] = field(default_factory=list)
    open: bool = False

    def start(self) -> None:
        self.world.io.post(lambda: self.world.joined(self))

    def ack(self, held: Copy) -> None:
        self.world.io.post(lambda: self.world.settled(self, held, "acked"))

    def reject(self, held: Copy) -> None:
        self.world.io.post(lambda: self.world.settled(self, held, "rejected"))

    def close(self, timeout: float) -> None:
        done = threading.Event()

        def closing() -> None:
            self.world.left(self)
            done.set()

        self.world.io.post(closing)
        assert done.wait(timeout)


class World:
    """Partitions with a single active consumer each, answers, reports, and the manager's durable facts.

    ``deaf`` loses every question; ``refuses_reports`` nacks that many reports; ``admits`` replaces admission.
    """

    def __init__(self, terms: LeaseTerms = FAST, partitions: int = 2, grants: int = 5) -> None:
        self.io = IoThread()
        self.limits = Limits(grants=grants, terms=terms)
        self.partitions = partitions
        self.epoch = 1
        self.queues: dict[int, deque[Copy]] = {p: deque() for p in range(partitions)}
        self.consumers: list[Consumer] = []
        self.acked: list[Copy] = []
        self.rejected: list[Copy] = []
        self.keys: dict[str, KeyFacts] = {}
        self.operations: dict[str, OperationFacts] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.dropped: list[Report] = []
        self.reports: list[Report] = []
        self.questions: list[Question] = []
        self.progressed: list[Progress] = []
        self.verdicts: list[str] = []
        self.listeners: dict[str, Callable[[Answer], None]] = {}
        self.deaf = False
        self.refuses_reports = 0
        self.silent_reports = 0
        self.announcements: list[object] = []
        self.heartbeats: list[object] = []
        self.departures: list[object] = []
        self.unreachable = 0
        self.refusal: Exception | None = None
        self.known = True
        self.drains = False
        self._sequences: dict[str, int] = {}

    # What a test does

    def submit(self, name: str = "power_on", number: int = 1, **more: object) -> str:
        """Accept and publish one operation; returns its id."""
        k = key(number)
        sequence = self._sequences[k] = self._sequences.get(k, 0) + 1
        operation = f"op-{number}-{sequence}"
        error = more.pop("error", None)
        fields = {
            "operation": operation, "name": name, "revision": 1, "release": "1.0", "cluster": "c", "epoch": self.epoch,
            "partition": partition_of(k, self.partitions), "key": k, "sequence": sequence, "round": 1,
            "deadline": None, "arguments": {"instance": k},
        } | more  # fmt: skip
        command = Command(**fields)
        facts = OperationFacts(operation, k, sequence, deadline=command.deadline)

        def accepted() -> None:
            self.keys.setdefault(k, KeyFacts(k))
            self.operations[operation] = facts
            self._publish(Copy(command, command.partition, error=error))

        self.io.post(accepted)
        return operation

    def publish(self, copy: Copy) -> None:
        """Put any message into a partition."""
        self.io.post(lambda: self._publish(copy))

    def cancel(self, operation: str) -> None:
        self.io.post(lambda: self._change(operation, cancel_requested=True))

    def lose(self, consumer: Consumer, partition: int | None = None, *, comes_back: bool = True) -> None:
        """The broker takes everything (or a partition) back from a consumer, which subscribes again."""

        def losing() -> None:
            back = [copy for copy in consumer.held if partition in {None, copy.partition}]
            consumer.held = [copy for copy in consumer.held if copy not in back]
            consumer.on_lost("lost by the test", partition)
            consumer.open = comes_back
            self._give_back(back)

        self.io.post(losing)

    def wait(self, *operations: str, seconds: float = 10.0) -> list[Outcome]:
        eventually(lambda: all(o in self.outcomes for o in operations), f"outcomes of {operations}", seconds)
        return [self.outcomes[o] for o in operations]

    def settle_io(self) -> None:
        """Wait until everything posted so far has run."""
        done = threading.Event()
        self.io.post(done.set)
        assert done.wait(5)

    def ports(self, worker: str) -> Ports:
        return Ports(
            sender=self,
            manager=self,
            open_answers=lambda on_answer: Listener(self, worker, on_answer),
            open_commands=lambda admission, on_command, on_lost: Consumer(self, admission, on_command, on_lost),
        )

    def worker(self, driver: TinyDriver, worker: str = "w1", **settings: object) -> Worker:
        fields = {"drain_timeout": 5.0, "close_timeout": 2.0, "progress_every": 0.02, "query_timeout": 2.0} | settings
        return Worker(WorkerSettings(worker=worker, cluster="c", **fields), opened(driver), self.ports(worker))

    # The broker

    def joined(self, consumer: Consumer) -> None:
        consumer.open = True
        self.consumers.append(consumer)
        self._deliver()

    def left(self, consumer: Consumer) -> None:
        consumer.open = False
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        back, consumer.held = consumer.held, []
        self._give_back(back)

    def settled(self, consumer: Consumer, copy: Copy, how: str) -> None:
        if any(copy is held for held in consumer.held):
            consumer.held = [held for held in consumer.held if held is not copy]
            (self.acked if how == "acked" else self.rejected).append(copy)
            self._deliver()

    def _publish(self, copy: Copy) -> None:
        self.queues[copy.partition].append(copy)
        self._deliver()

    def _give_back(self, copies: list[Copy]) -> None:
        for copy in reversed(copies):
            again = Copy(copy.command, copy.partition, copy.delivery_count + 1, copy.error)
            self.queues[copy.partition].appendleft(again)
        self._deliver()

    def _deliver(self) -> None:
        for partition, waiting in self.queues.items():
            active = next((c for c in self.consumers if c.open), None)
            while active is not None and waiting:
                if sum(held.partition == partition for held in active.held) >= active.admission.prefetch:
                    break
                copy = waiting.popleft()
                active.held.append(copy)
                active.on_command(copy)

    # The results queues and the manager behind them

    def ask(self, question: Question) -> None:
        self.io.post(lambda: self._asked(question))

    def report(self, report: Report, on_settled: Callable[[bool], None]) -> None:
        self.io.post(lambda: self._reported(report, on_settled))

    def _asked(self, question: Question) -> None:
        self.questions.append(question)
        if self.deaf:
            return
        facts, now = self.operations[question.operation], self._now()
        case = Case(question, self.keys[question.key], facts, now, time.time(), self.limits)
        decision = answer(case)
        self.keys[question.key], self.operations[question.operation] = decision.key, decision.operation
        self.verdicts.append(decision.answer.verdict)
        listener = self.listeners.get(question.worker)
        if listener is not None:
            listener(decision.answer)

    def _reported(self, report: Report, on_settled: Callable[[bool], None]) -> None:
        self.reports.append(report)
        if self.silent_reports:
            self.silent_reports -= 1
            return
        if self.refuses_reports:
            self.refuses_reports -= 1
            on_settled(False)  # noqa: FBT003
            return
        on_settled(True)  # noqa: FBT003
        applied = apply_report(self.keys[report.key], self.operations[report.operation], report, self._now())
        if isinstance(applied, Dropped):
            self.dropped.append(report)
            return
        self.keys[report.key], self.operations[report.operation] = applied.key, applied.operation
        self.outcomes[report.operation] = applied.outcome

    def progress(self, progress: Progress) -> None:
        self.progressed.append(progress)

    def _change(self, operation: str, **facts: object) -> None:
        self.operations[operation] = replace(self.operations[operation], **facts)

    def _now(self) -> Stamp:
        return Stamp("test", time.monotonic())

    # Admission

    def admit(self, announcement: object) -> Admission:
        self.announcements.append(announcement)
        if self.unreachable:
            self.unreachable -= 1
            raise Unavailable("the manager does not answer")
        if self.refusal is not None:
            raise self.refusal
        self.known = True
        return Admission(
            worker=announcement.worker, cluster="c", epoch=self.epoch, partitions=self.partitions, pin="1.0",
            lease_seconds=self.limits.terms.lease, margin_seconds=self.limits.terms.margin, heartbeat_seconds=0.05,
        )  # fmt: skip

    def heartbeat(self, heartbeat: object) -> HeartbeatAnswer:
        self.heartbeats.append(heartbeat)
        if self.unreachable:
            self.unreachable -= 1
            raise Unavailable("the manager does not answer")
        return HeartbeatAnswer(known=self.known, epoch=self.epoch, drain=self.drains)

    def leave(self, departure: object) -> None:
        self.departures.append(departure)


@dataclass
class Listener:
    """The worker's own answers queue."""

    world: World
    worker: str
    on_answer: Callable[[Answer], None]

    def __post_init__(self) -> None:
        self.world.listeners[self.worker] = self.on_answer

    def close(self, timeout: float) -> None:
        self.world.listeners.pop(self.worker, None)


class Runner:
    """Runs a worker's ``run_until_stopped`` in a thread and keeps its exit code."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.code = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        worker.start()
        self._thread.start()

    def _run(self) -> None:
        self.code = self.worker.run_until_stopped()

    def ended(self, seconds: float = 10.0):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the worker does not end"
        return self.code
