"""What a worker counts, as plain numbers; metrics are made of them elsewhere."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from federation.contract.operations import DECLARED
from federation.worker.ports import Meter

_DECLARED = frozenset(operation.name for operation in DECLARED)


@dataclass(slots=True)
class Spent:
    """How often something ended, and how long it took in all and at most, in seconds."""

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)


def _label(name: object) -> str:
    """Only declared names become labels: what a foreign message calls itself must not grow the table."""
    return name if isinstance(name, str) and name in _DECLARED else "undeclared"


class Counters:
    """Thread-safe counters of one worker.

    ``events`` names: delivered, rejected, late_answers, answers_dropped, answers.<verdict>, reports_retried,
    port_failures, consumers_lost, progress_sent, heartbeats_failed, readmissions, queries_hung.
    """

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self._lock = threading.Lock()
        self._events: Counter[str] = Counter()
        self._operations: Counter[tuple[str, str]] = Counter()
        self._queries: Counter[tuple[str, str]] = Counter()
        self._driver_bugs: Counter[str] = Counter()
        self._durations: dict[str, Spent] = {}
        self._guards: Counter[str] = Counter()
        self._lease_margin_least: float | None = None

    def count(self, event: str, times: int = 1) -> None:
        """Something happened."""
        with self._lock:
            self._events[event] += times

    def operation(self, name: str, end: str, seconds: float) -> None:
        """An operation's call ended: ``end`` is ``succeeded``, ``revoked`` or a code of the catalogue."""
        with self._lock:
            self._operations[_label(name), end] += 1
            self._durations.setdefault(_label(name), Spent()).add(seconds)
        if self.meter is not None:
            self.meter.lasted(_label(name), seconds)

    def query(self, name: object, end: str, seconds: float) -> None:
        """A query ended: ``end`` is ``succeeded`` or a code of the catalogue."""
        with self._lock:
            self._queries[_label(name), end] += 1
            self._durations.setdefault(_label(name), Spent()).add(seconds)
        if self.meter is not None:
            self.meter.lasted(_label(name), seconds)

    def driver_bug(self, driver: str) -> None:
        """A driver broke the contract."""
        with self._lock:
            self._driver_bugs[driver] += 1

    @property
    def driver_bugs(self) -> int:
        """How often this worker's driver broke the contract."""
        with self._lock:
            return self._driver_bugs.total()

    def guarded(self, passed: int, refused: int, waited: int, least_margin: float | None) -> None:
        """A call's guards: how many passed, were refused, had to wait, and the least lease left at one that passed."""
        with self._lock:
            self._guards.update(passed=passed, refused=refused, waited=waited)
            known = [margin for margin in (self._lease_margin_least, least_margin) if margin is not None]
            self._lease_margin_least = min(known, default=None)
        if self.meter is not None and least_margin is not None:
            self.meter.margin(least_margin)

    def snapshot(self) -> dict[str, object]:
        """Everything, in builtin types."""
        with self._lock:
            return {
                "events": dict(self._events),
                "operations": {f"{name}.{end}": times for (name, end), times in self._operations.items()},
                "queries": {f"{name}.{end}": times for (name, end), times in self._queries.items()},
                "driver_bugs": dict(self._driver_bugs),
                "guards": dict(self._guards),
                "lease_margin_least_seconds": self._lease_margin_least,
                "durations": {
                    name: {"count": spent.count, "seconds": spent.seconds, "longest": spent.longest}
                    for name, spent in self._durations.items()
                },
            }
