"""When the thread that decides does what, on a clock that moves only when the test says so."""

import threading

import pytest
from worker.facts import FAST, Facts
from worker.tiny_driver import TinyDriver, eventually, opened
from worker.world import Copy

from federation.protocol.worker_core import WorkerCore, WorkerTerms
from federation.testing.clock import ManualClock
from federation.worker.boundary import Boundary
from federation.worker.counters import Counters
from federation.worker.driver_threads import DriverThreads
from federation.worker.errors import ExitCode, Unavailable
from federation.worker.inbox import (
    Admitted,
    Answered,
    ConsumerLost,
    Delivered,
    DrainBegan,
    Handle,
    Inbox,
    LoadAsked,
    ReportSettled,
)
from federation.worker.loop import DecisionLoop
from federation.worker.ports import Ports
from federation.worker.settings import WorkerSettings
from federation.worker.surroundings import Surroundings


class Recorder:
    """Ports that only record; ``broken`` makes every send fail."""

    def __init__(self):
        self.asked, self.reported, self.progressed, self.acked = [], [], [], []
        self.broken = False

    def ask(self, question):
        self._take(self.asked, question)

    def report(self, report, on_settled):
        self._take(self.reported, report)

    def progress(self, progress):
        self._take(self.progressed, progress)

    def ack(self, held):
        self._take(self.acked, held.command.operation)

    def _take(self, kept, message):
        if self.broken:
            raise Unavailable("no connection")
        kept.append(message)


class Bench:
    """A decision loop without its thread."""

    def __init__(self, act=lambda _call, _request: None, **settings):
        self.facts = Facts()
        self.clock = ManualClock()
        self.ports = Recorder()
        self.ended = []
        self.inbox = Inbox()
        self.counters = Counters()
        made = opened(TinyDriver(act))
        chosen = WorkerSettings(worker="w", cluster="c", **settings)
        around = Surroundings(
            settings=chosen,
            ports=Ports(sender=self.ports, manager=None, open_answers=None, open_commands=None),
            inbox=self.inbox,
            counters=self.counters,
            clock=self.clock.monotonic,
            end=lambda code, reason: self.ended.append((code, reason)),
        )
        boundary = Boundary(made.driver, made.served, made.redactor, self.counters, chosen.max_outcome_bytes)
        core = WorkerCore("w", WorkerTerms(max_operations=chosen.max_operations), self._next_id)
        self.loop = DecisionLoop(core, around, DriverThreads(boundary, self.inbox, made.redactor))
        self.ids = 0
        self.happens(Admitted(self.facts.admission("w")))

    def _next_id(self):
        self.ids += 1
        return f"q{self.ids}"

    def happens(self, *events):
        self.loop.handle(events, self.clock.monotonic())

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.happens()

    def deliver(self, number=1, **more):
        command = self.facts.accept(number=number, **more)
        self.happens(Delivered(Handle(self.ports, Copy(command, command.partition))))
        return command

    def answer_newest(self):
        self.happens(Answered(self.facts.answer(self.ports.asked[-1])))

    def take_until(self, condition, what):
        """Handle what the driver's threads put into the inbox until it holds."""

        def step():
            self.happens(*self.inbox.take(0.01))
            return condition()

        eventually(step, what)

    def wakes_in(self):
        wake = self.loop.next_wake()
        return None if wake is None else pytest.approx(wake - self.clock.monotonic())


def test_an_idle_worker_sleeps_without_end():
    assert Bench().loop.next_wake() is None


def test_a_question_is_sent_again_when_its_time_has_come_and_not_before():
    bench = Bench()
    bench.deliver()
    assert bench.wakes_in() == FAST.lease / 6
    bench.advance(FAST.lease / 6 - 0.001)
    assert len(bench.ports.asked) == 1
    bench.advance(0.002)
    assert [question.id for question in bench.ports.asked] == ["q1", "q1"]


def test_a_running_operation_is_renewed_after_a_third_of_its_lease():
    hold = threading.Event()
    bench = Bench(lambda _call, _request: hold.wait(10))
    bench.deliver()
    bench.answer_newest()
    assert bench.wakes_in() == FAST.lease / 3
    bench.advance(FAST.lease / 3)
    assert [question.renews for question in bench.ports.asked] == [None, 1]
    hold.set()


def test_an_answer_to_an_older_question_is_counted_as_late_and_changes_nothing():
    bench = Bench()
    bench.deliver()
    late = bench.facts.answer(bench.ports.asked[0])
    bench.happens(ConsumerLost("lost", None))
    bench.happens(Answered(late))
    assert bench.counters.snapshot()["events"]["late_answers"] == 1
    assert bench.ports.reported == []


def test_an_outcome_is_sent_again_when_its_confirm_is_overdue_and_acknowledged_after_the_first_confirm():
    bench = Bench(report_timeout=30.0)
    bench.deliver()
    bench.answer_newest()
    bench.take_until(lambda: bench.ports.reported, "the report")
    assert bench.wakes_in() == 30.0
    bench.advance(30.0)
    bench.advance(FAST.lease / 12)
    assert len(bench.ports.reported) == 2
    assert bench.ports.acked == []
    bench.happens(ReportSettled(1, confirmed=True))
    assert bench.ports.acked == ["op-1-1"]


def test_a_port_that_fails_ends_nothing_and_what_it_could_not_send_is_sent_later():
    bench = Bench()
    bench.ports.broken = True
    bench.deliver()
    assert bench.counters.snapshot()["events"]["port_failures"] == 1
    bench.ports.broken = False
    bench.advance(FAST.lease / 6)
    bench.answer_newest()
    bench.ports.broken = True
    bench.take_until(lambda: bench.counters.snapshot()["events"].get("reports_retried"), "the report that failed")
    bench.ports.broken = False
    bench.advance(FAST.lease / 12)
    assert len(bench.ports.reported) == 1
    assert bench.ended == []


class Hanging:
    """A driver whose calls hang until released."""

    def __init__(self):
        self.released = threading.Event()

    def __call__(self, _call, _request):
        self.released.wait(10)


def test_a_worker_gives_itself_up_when_hanging_revoked_calls_take_every_slot_for_long_enough(caplog):
    hanging = Hanging()
    bench = Bench(hanging, max_operations=2, stuck_after=60.0)
    for number in (1, 2):
        bench.deliver(number)
        bench.answer_newest()
    bench.happens(ConsumerLost("lost", None))
    assert bench.wakes_in() == 60.0
    bench.advance(59.0)
    assert bench.ended == []
    bench.advance(1.0)
    assert [code for code, _ in bench.ended] == [ExitCode.STUCK]
    assert "released.wait" in caplog.text
    hanging.released.set()


def test_a_worker_with_a_free_slot_does_not_give_itself_up():
    hanging = Hanging()
    bench = Bench(hanging, max_operations=2, stuck_after=60.0)
    bench.deliver()
    bench.answer_newest()
    bench.happens(ConsumerLost("lost", None))
    bench.advance(3600.0)
    assert bench.ended == []
    hanging.released.set()


def test_a_hanging_call_that_ends_in_time_frees_its_slot():
    hanging = Hanging()
    bench = Bench(hanging, max_operations=1, stuck_after=60.0)
    bench.deliver()
    bench.answer_newest()
    bench.happens(ConsumerLost("lost", None))
    bench.advance(59.0)
    hanging.released.set()
    bench.take_until(lambda: bench.loop.next_wake() is None, "the end of the call")
    bench.advance(3600.0)
    assert bench.ended == []
    assert bench.ports.reported == []
    assert bench.counters.snapshot()["operations"] == {"power_on.revoked": 1}


def test_progress_is_sent_at_once_and_then_at_most_every_so_often_and_the_latest_wins():
    steps = threading.Semaphore(0)
    made = threading.Semaphore(0)

    def act(call, _request):
        for percent in range(1, 5):
            assert steps.acquire(timeout=10)
            call.progress(percent, "copying")
            made.release()

    bench = Bench(act, progress_every=0.05)

    def step(times=1):
        for _ in range(times):
            steps.release()
            assert made.acquire(timeout=10)
        bench.happens(*bench.inbox.take(1.0))

    bench.deliver()
    bench.answer_newest()
    step()
    assert [progress.percent for progress in bench.ports.progressed] == [1]
    step(times=2)
    assert [progress.percent for progress in bench.ports.progressed] == [1]
    assert bench.wakes_in() == 0.05
    bench.advance(0.05)
    assert [progress.percent for progress in bench.ports.progressed] == [1, 3]
    step()


def test_a_worker_that_drains_asks_for_nothing_new_and_tells_when_it_is_idle():
    bench = Bench()
    idle = []
    bench.deliver()
    bench.happens(DrainBegan(lambda: idle.append(1), final=True))
    bench.deliver(number=2)
    assert len(bench.ports.asked) == 1
    assert idle == []
    bench.answer_newest()
    bench.take_until(lambda: bench.ports.reported, "the report")
    bench.happens(ReportSettled(1, confirmed=True))
    assert idle == [1]
    assert bench.ports.acked == ["op-1-1"]


def test_an_admission_to_a_new_epoch_ends_a_drain_but_not_a_final_one():
    for final, asked in ((False, 1), (True, 0)):
        bench = Bench()
        bench.happens(DrainBegan(lambda: None, final=final))
        bench.deliver()
        bench.happens(Admitted(bench.facts.admission("w")))
        assert len(bench.ports.asked) == asked


def test_the_load_says_what_runs_what_is_held_and_how_many_partitions_were_served():
    bench = Bench(Hanging())
    for number in range(1, 6):
        bench.deliver(number)
    bench.deliver(1)
    told = []
    bench.happens(LoadAsked(told.append), LoadAsked(told.append))
    assert told[0] == {"running": 5, "held": 6, "revoked": 0, "partitions": 2, "max_operations": 16, "driver_bugs": 0}
    assert told[1]["partitions"] == 0, "since the last time"


def test_a_loop_that_breaks_revokes_every_call_and_ends_the_worker(caplog):
    refused = []

    def act(call, _request):
        try:
            call.sleep(10)
        except BaseException as error:
            refused.append(type(error).__name__)
            raise

    bench = Bench(act)
    bench.deliver()
    bench.answer_newest()
    bench.inbox.put(Answered(None))
    bench.loop.run()
    assert [code for code, _ in bench.ended] == [ExitCode.FAILED]
    eventually(lambda: refused == ["Revoked"], "the revocation")
    assert "decision loop broken" in caplog.text
