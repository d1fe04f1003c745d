"""The one thread that decides: events in, decisions by the core, actions out.

It owns the sans-I/O core; nobody else touches it.  It never waits for anything but its inbox: driver calls run in threads
of their own, and the ports it calls only hand messages to an I/O thread.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.admission import Admission
from federation.protocol.envelope import Answer
from federation.protocol.lease import LeaseTerms
from federation.protocol.worker_actions import Action, Held
from federation.protocol.worker_core import WorkerCore
from federation.worker.actions import ActionRunner
from federation.worker.driver_threads import DriverThreads
from federation.worker.errors import ExitCode
from federation.worker.inbox import (
    Admitted,
    Answered,
    CallEnded,
    ConsumerLost,
    Delivered,
    DrainBegan,
    Event,
    Handle,
    LoadAsked,
    ProgressMade,
    ReportSettled,
    RevocationAsked,
    Stopped,
)
from federation.worker.redaction import class_name
from federation.worker.surroundings import Surroundings

_log = logging.getLogger(__name__)
_SLOWEST_RESEND = 1.0
_RESENDS_PER_LEASE = 6


@dataclass(slots=True)
class _Draining:
    final: bool = False
    on_idle: list[Callable[[], None]] = field(default_factory=list)


class DecisionLoop:
    """Feeds the core and has done what it says.

    It asks the worker to end when revoked calls have taken every slot for ``stuck_after`` seconds (what hangs where is in
    the log then), and when it broke itself (every call is revoked by then).
    """

    def __init__(self, core: WorkerCore, around: Surroundings, threads: DriverThreads) -> None:
        self._core = core
        self._inbox = around.inbox
        self._threads = threads
        self._counters = around.counters
        self._settings = around.settings
        self._end = around.end
        self._tracing = around.ports.tracing
        self._clock = around.clock
        self._runner = ActionRunner(around, threads)
        self._brought: dict[int, float] = {}
        self._told_at = -math.inf
        self._draining = _Draining()
        self._full_since: float | None = None
        self._stopped = False

    def run(self) -> None:
        """Decide until Stopped comes or the loop itself breaks."""
        try:
            while not self._stopped:
                wake = self.next_wake()
                events = self._inbox.take(None if wake is None else wake - self._clock())
                self.handle(events, self._clock())
        except Exception as error:  # noqa: BLE001 — calls must not go on under leases that nobody minds
            _log.critical("decision loop broken problem=%s", class_name(error), exc_info=True)
            for call in self._runner.calls.values():
                call.revoke()
            self._end(ExitCode.FAILED, f"the decision loop broke ({class_name(error)})")

    def handle(self, events: Iterable[Event], now: float) -> None:
        """Decide on these events, in order, then on the time."""
        for event in events:
            self._runner.do(self._decide(event, now), now)
        due = self._core.next_tick()
        if due is not None and due <= now:
            self._runner.do(self._core.tick(now), now)
        for call in self._runner.overdue_reports(now):
            self._runner.do(self._report_settled(call, confirmed=False, now=now), now)
        self._runner.send_progress(now)
        self._watch_slots(now)
        self._tell_idle()

    def next_wake(self) -> float | None:
        """When something is due without any event, on the loop's clock."""
        stuck = None if self._full_since is None else self._full_since + self._settings.stuck_after
        due = (self._core.next_tick(), self._runner.next_due(), stuck)
        return min((when for when in due if when is not None), default=None)

    def _decide(self, event: Event, now: float) -> list[Action]:  # noqa: C901, PLR0911 — one case for each event
        match event:
            case Delivered(handle):
                return self._delivered(handle, now)
            case Answered(answer):
                return self._answered(answer, now)
            case CallEnded(call, outcome):
                return self._call_ended(call, outcome, now)
            case ReportSettled(call, confirmed):
                return self._report_settled(call, confirmed=confirmed, now=now)
            case ProgressMade(call):
                self._runner.progress.made(call, now)
            case ConsumerLost(reason, partition):
                return self._lost(reason, partition, now)
            case Admitted(admission):
                return self._admitted(admission, now)
            case DrainBegan(on_idle, final):
                self._core.drain()
                self._draining.final = self._draining.final or final
                self._draining.on_idle.append(on_idle)
            case RevocationAsked(tell):
                return self._revoke_all(tell, now)
            case LoadAsked(tell, seconds):
                tell(self._load(now, seconds))
            case Stopped():
                self._stopped = True
        return []

    def _delivered(self, handle: Handle, now: float) -> list[Action]:
        held, command = handle.held, handle.held.command
        self._counters.count("delivered")
        mine = (self._settings.cluster, held.partition)
        if command is None or (command.cluster, command.partition) != mine:
            # Of a message that names another cluster or partition the loss of its queue would not revoke the call.
            named = "nothing" if command is None else f"cluster {command.cluster} partition {command.partition}"
            _log.error("delivery rejected partition=%d names=%r problem=%r", held.partition, named, held.error)
            self._runner.reject(handle)
            return []
        self._brought[held.partition] = now
        if self._tracing is not None:
            self._tracing.delivered(command)
        return self._core.deliver(Held(command, held.delivery_count, handle, held.error), now)

    def _answered(self, answer: Answer, now: float) -> list[Action]:
        if self._tracing is not None:
            self._tracing.answered(answer)
        if self._runner.questions.answered(answer.key, answer.question):
            self._counters.count(f"answers.{answer.verdict}")
        else:
            self._counters.count("late_answers")
        if answer.verdict not in {"grant", "renewed"}:
            told = (answer.operation, answer.verdict, answer.reason)
            _log.info("not executed operation=%s verdict=%s reason=%r", *told)
        return self._core.answered(answer, now)

    def _call_ended(self, call: int, outcome: Outcome | None, now: float) -> list[Action]:
        running = self._runner.ended(call)
        command, seconds = running.command, now - running.started
        kept = None if running.revoked else outcome
        end = "revoked" if kept is None else kept.code or OutcomeKind.SUCCEEDED.value
        self._counters.operation(command.name, end, seconds)
        self._counters.guarded(
            running.guards_passed, running.guards_refused, running.guards_waited, running.least_margin
        )
        told = (command.operation, command.name, command.key, running.attempt, end, seconds)
        _log.info("operation ended operation=%s name=%s key=%s attempt=%d end=%s seconds=%.3f", *told)
        return self._core.call_ended(call, outcome, now)

    def _report_settled(self, call: int, *, confirmed: bool, now: float) -> list[Action]:
        self._runner.report_settled(call, confirmed=confirmed)
        return self._core.report_settled(call, confirmed=confirmed, now=now)

    def _lost(self, reason: str, partition: int | None, now: float) -> list[Action]:
        _log.warning("consumer lost partition=%s reason=%r", "all" if partition is None else partition, reason)
        self._counters.count("consumers_lost")
        self._runner.questions.forget(partition)
        return self._core.lost(partition, now)

    def _admitted(self, admission: Admission, now: float) -> list[Action]:
        lease = LeaseTerms(admission.lease_seconds, admission.margin_seconds)
        resend = min(_SLOWEST_RESEND, lease.lease / _RESENDS_PER_LEASE)
        self._core.terms = replace(self._core.terms, lease=lease, resend_after=resend, report_retry=resend / 2)
        self._core.draining = self._draining.final
        return self._core.tick(now)

    def _revoke_all(self, tell: Callable[[list[str]], None], now: float) -> list[Action]:
        running = [call for call in self._runner.calls.values() if not call.revoked]
        self._runner.questions.forget(None)
        actions = self._core.lost(None, now)
        tell([f"{call.command.name} {call.operation}" for call in running])
        return actions

    def _load(self, now: float, seconds: float | None) -> dict[str, float]:
        since = self._told_at if seconds is None else now - seconds
        partitions = sum(1 for brought in self._brought.values() if brought > since)
        if seconds is None:
            self._told_at = now
        return {
            "running": self._core.running_count,
            "held": self._core.held_count,
            "revoked": self._core.revoked_count,
            "partitions": partitions,
            "max_operations": self._settings.max_operations,
            "driver_bugs": self._counters.driver_bugs,
        }

    def _watch_slots(self, now: float) -> None:
        if self._core.revoked_count < self._settings.max_operations:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now >= self._full_since + self._settings.stuck_after:
            self._full_since = now
            told = (self._settings.worker, self._settings.stuck_after, self._what_hangs())
            _log.critical("worker stuck worker=%s after_seconds=%g\n%s", *told)
            self._end(ExitCode.STUCK, "revoked calls that do not end took every slot")

    def _what_hangs(self) -> str:
        return "\n".join(
            f"{running.command.name} {running.operation} attempt {running.attempt} hangs in\n{self._threads.where(call)}"
            for call, running in self._runner.calls.items()
            if running.revoked
        )

    def _tell_idle(self) -> None:
        if self._core.idle and self._core.draining:
            waiting, self._draining.on_idle = self._draining.on_idle, []
            for on_idle in waiting:
                on_idle()
