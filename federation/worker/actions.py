"""Does what the decision core says: hands messages to the ports, starts driver calls, wakes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from federation.protocol.envelope import Question
from federation.protocol.worker_actions import Acknowledge, Action, Ask, Held, LeaseChanged, SendReport, StartCall
from federation.worker.calls import RunningCall
from federation.worker.driver_threads import DriverThreads
from federation.worker.inbox import Handle, ProgressMade, ReportSettled
from federation.worker.open_questions import OpenQuestions
from federation.worker.progress import ProgressPacer
from federation.worker.redaction import class_name
from federation.worker.surroundings import Surroundings

_log = logging.getLogger(__name__)


class ActionRunner:
    """Belongs to the thread that decides; keeps the calls that run and what waits for the broker or the manager.

    A port that fails does not harm: what it could not do now the protocol repeats (questions and reports are sent again,
    deliveries come again); it is counted and logged.
    """

    def __init__(self, around: Surroundings, threads: DriverThreads) -> None:
        self.calls: dict[int, RunningCall] = {}
        self.questions = OpenQuestions()
        self.progress = ProgressPacer(around.settings.worker, around.settings.progress_every)
        self._reports: dict[int, float] = {}
        self._report_timeout = around.settings.report_timeout
        self._inbox = around.inbox
        self._sender = around.ports.sender
        self._tracing = around.ports.tracing
        self._threads = threads
        self._counters = around.counters
        self._clock = around.clock

    def do(self, actions: Iterable[Action], now: float) -> None:
        """Take these actions, in order."""
        for action in actions:
            match action:
                case Ask(question):
                    self._ask(question)
                case StartCall(call, held):
                    self._start(call, held, action)
                case LeaseChanged(call) if call in self.calls:
                    # A granted call that still waits for an older lease is renewed too, and has nobody to wake.
                    self.calls[call].lease_changed()
                case SendReport(call):
                    self._report(call, action, now)
                case Acknowledge(Held(handle=Handle() as handle)):
                    self._attempt("ack", partial(handle.source.ack, handle.held))

    def reject(self, handle: Handle) -> None:
        """Dead-letter a delivery."""
        self._counters.count("rejected")
        self._attempt("reject", partial(handle.source.reject, handle.held))

    def ended(self, call: int) -> RunningCall:
        """A call's thread has ended; returns the call."""
        self.progress.ended(call)
        return self.calls.pop(call)

    def report_settled(self, call: int, *, confirmed: bool) -> None:
        """The broker answered a report, or it is taken as lost."""
        self._reports.pop(call, None)
        if not confirmed:
            self._counters.count("reports_retried")

    def overdue_reports(self, now: float) -> list[int]:
        """Calls whose report the broker has left without an answer for too long."""
        return [call for call, sent in self._reports.items() if now >= sent + self._report_timeout]

    def send_progress(self, now: float) -> None:
        """Send what progress is due."""
        for progress in self.progress.take_due(now):
            self._counters.count("progress_sent")
            self._attempt("progress", partial(self._sender.progress, progress))

    def next_due(self) -> float | None:
        """When a report or progress is due without any event."""
        due = [sent + self._report_timeout for sent in self._reports.values()]
        progress = self.progress.next_due()
        return min(due if progress is None else [*due, progress], default=None)

    def _ask(self, question: Question) -> None:
        self.questions.asked(question)
        if self._tracing is not None:
            self._tracing.asked(question)
        message = question if question.renews is None else self.progress.on_board(question)
        self._attempt("ask", partial(self._sender.ask, message))

    def _start(self, call: int, held: Held, start: StartCall) -> None:
        news = partial(self._inbox.put, ProgressMade(call))
        running = RunningCall(start, news, clock=self._clock)
        self.calls[call] = running
        self.progress.started(call, running)
        self._threads.start(call, held, running)

    def _report(self, call: int, action: SendReport, now: float) -> None:
        def settled(confirmed: bool) -> None:  # noqa: FBT001 — the port's callback has this form
            self._inbox.put(ReportSettled(call, confirmed))

        self._reports[call] = now
        if not self._attempt("report", partial(self._sender.report, action.report, settled)):
            self._inbox.put(ReportSettled(call, confirmed=False))

    def _attempt(self, what: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 — the port's other side must not end the thread that decides
            self._counters.count("port_failures")
            _log.warning("port failed action=%s problem=%s", what, class_name(error), exc_info=True)
            return False
        return True
