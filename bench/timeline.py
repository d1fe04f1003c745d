"""When each operation passed each station, as the manager's process sees it.

The stations are listened to at the ports: the command and answer senders and the results loop's inbox are wrapped, which
costs a few microseconds each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from federation.bootstrap.managers import RunningManager
from federation.contract.outcomes import Outcome
from federation.protocol.envelope import Answer, Command, Question, Report
from federation.protocol.records import OperationRecord

STATIONS = ("submitted", "accepted", "handed to the bus", "confirmed", "question", "answer", "report", "settled")
PHASES = (
    ("accept", "submitted", "accepted"),
    ("wait for the publisher", "accepted", "handed to the bus"),
    ("publish to confirm", "handed to the bus", "confirmed"),
    ("publish to question", "handed to the bus", "question"),
    ("question to answer", "question", "answer"),
    ("answer to report", "answer", "report"),
    ("report to settled", "report", "settled"),
    ("all", "submitted", "settled"),
)


class Timeline:
    """Collects from the moment it is made; only the first time counts at each station."""

    def __init__(self, running: RunningManager, listeners: list[Callable[[OperationRecord, Outcome], None]]) -> None:
        """``listeners`` are told of every outcome."""
        self.times: dict[str, dict[str, float]] = {}
        self.batches: list[tuple[int, float]] = []
        """Results written in one transaction: how many, and seconds."""
        manager = running.manager
        commands, answers = _Commands(manager.publisher._commands, self.note), manager.results._answers  # noqa: SLF001
        manager.publisher._commands = commands  # noqa: SLF001
        manager.results._answers = _Answers(answers, self.note)  # noqa: SLF001
        self._write = manager.results._write  # noqa: SLF001
        manager.results._write = self._timed_write  # type: ignore[method-assign]  # noqa: SLF001
        self._put = manager.results._inbox.put  # noqa: SLF001
        manager.results.on_result = self._on_result  # type: ignore[method-assign]
        running.results._on_result = self._on_result  # noqa: SLF001
        listeners.append(self._settled)

    def note(self, operation: str, station: str, at: float | None = None) -> None:
        """An operation is at a station now."""
        self.times.setdefault(operation, {}).setdefault(station, time.perf_counter() if at is None else at)

    def forget(self) -> None:
        """Start over."""
        self.times.clear()
        self.batches.clear()

    def phases(self) -> list[dict[str, Any]]:
        """Median and 99th percentile of each phase, in milliseconds."""
        rows = []
        for phase, begin, end in PHASES:
            found = [each for each in list(self.times.values()) if begin in each and end in each]
            seconds = sorted(each[end] - each[begin] for each in found)
            if seconds:
                row = {"phase": phase, "p50_ms": statistics.median(seconds) * 1000}
                rows.append({**row, "p99_ms": seconds[int(len(seconds) * 0.99)] * 1000})
        return rows

    def _on_result(self, held: Any) -> None:
        result = held.result
        if isinstance(result, Question) and result.renews is None:
            self.note(result.operation, "question")
        elif isinstance(result, Report):
            self.note(result.operation, "report")
        self._put((time.monotonic(), held))

    def _settled(self, record: OperationRecord, _outcome: Outcome) -> None:
        self.note(record.id, "settled")

    def _timed_write(self, held: list[Any]) -> Any:
        began = time.perf_counter()
        written = self._write(held)
        self.batches.append((len(held), time.perf_counter() - began))
        return written


class _Commands:
    def __init__(self, inner: Any, note: Callable[..., None]) -> None:
        self._inner = inner
        self._note = note

    def publish(self, command: Command, on_settled: Callable[[bool], None]) -> None:
        self._note(command.operation, "handed to the bus")

        def settled(certain: bool) -> None:  # noqa: FBT001  # the port's callback
            self._note(command.operation, "confirmed")
            on_settled(certain)

        self._inner.publish(command, settled)


class _Answers:
    def __init__(self, inner: Any, note: Callable[..., None]) -> None:
        self._inner = inner
        self._note = note

    def answer(self, cluster: str, worker: str, answer: Answer) -> None:
        self._inner.answer(cluster, worker, answer)
        self._note(answer.operation, "answer")
