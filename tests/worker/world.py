"""A small real world for the worker: a broker's partitions in memory, and a manager that answers by the real table."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from worker.facts import FAST, Facts
from worker.tiny_driver import TinyDriver, opened

from federation.protocol.admission import Admission, HeartbeatAnswer
from federation.protocol.envelope import Answer, Command, Progress, Question, Report
from federation.protocol.lease import LeaseTerms
from federation.worker.errors import Unavailable
from federation.worker.ports import Ports
from federation.worker.settings import WorkerSettings
from federation.worker.worker import Worker


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


class World(Facts):
    """Partitions with a single active consumer each, answers and reports, around the facts of a manager.

    ``deaf`` loses every question; ``refuses_reports`` nacks that many reports, ``silent_reports`` leaves that many without
    a confirm; ``unreachable`` calls of the manager fail.
    """

    def __init__(self, terms: LeaseTerms = FAST, partitions: int = 2, grants: int = 5) -> None:
        super().__init__(terms, partitions, grants)
        self.io = IoThread()
        self.queues: dict[int, deque[Copy]] = {p: deque() for p in range(partitions)}
        self.consumers: list[Consumer] = []
        self.acked: list[Copy] = []
        self.rejected: list[Copy] = []
        self.reports: list[Report] = []
        self.questions: list[Question] = []
        self.progressed: list[Progress] = []
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

    # What a test does

    def submit(self, name: str = "power_on", number: int = 1, *, error: str | None = None, **more: object) -> str:
        """Accept and publish one operation; returns its id."""
        command = self.accept(name, number, **more)
        self.publish(Copy(command, command.partition, error=error))
        return command.operation

    def publish(self, copy: Copy) -> None:
        """Put any message into a partition."""
        self.io.post(lambda: self._publish(copy))

    def cancel(self, operation: str) -> None:
        self.io.post(lambda: self.request_cancel(operation))

    def lose(self, consumer: Consumer, partition: int | None = None, *, comes_back: bool = True) -> None:
        """The broker takes everything (or a partition) back from a consumer, which subscribes again."""

        def losing() -> None:
            back = [copy for copy in consumer.held if partition in {None, copy.partition}]
            consumer.held = [copy for copy in consumer.held if copy not in back]
            consumer.on_lost("lost by the test", partition)
            consumer.open = comes_back
            self._give_back(back)

        self.io.post(losing)

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
        said = self.answer(question)
        listener = self.listeners.get(question.worker)
        if listener is not None:
            listener(said)

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
        self.apply(report)

    def progress(self, progress: Progress) -> None:
        self.progressed.append(progress)

    # Admission

    def admit(self, announcement: object) -> Admission:
        self.announcements.append(announcement)
        if self.unreachable:
            self.unreachable -= 1
            raise Unavailable("the manager does not answer")
        if self.refusal is not None:
            raise self.refusal
        self.known = True
        return self.admission(announcement.worker)

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
