"""What ``federation top`` looks at: one look at a manager, and what two of them say about rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
Ask = Callable[..., Any]

_IN_FLIGHT = 200
_FAILURES = 5
_ENDED = ("succeeded", "failed", "refused", "unknown")
_WENT_WRONG = ("failed", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look; ``taken_at`` is Unix seconds here, ``clock`` a steady clock's seconds."""

    taken_at: float
    clock: float
    figures: list[Record]
    counts: Mapping[str, Mapping[str, int]]
    workers: list[Record]
    running: list[Record]
    failures: list[Record]

    def ended(self, cluster: str) -> int:
        """How many operations of a cluster have their outcome, of those that the store keeps."""
        states = self.counts.get(cluster, {})
        return sum(states.get(state, 0) for state in _ENDED)


def look(ask: Ask, cluster: str | None) -> Snapshot:
    """Ask a manager for all of it, of one cluster or of all."""
    clock, taken_at = time.monotonic(), time.time()
    wrong = [each for state in _WENT_WRONG for each in ask("operations", cluster=cluster, state=state, limit=_FAILURES)]
    running = ask("operations", cluster=cluster, state="running", limit=_IN_FLIGHT)
    workers = ask("workers", cluster=cluster)
    return Snapshot(
        taken_at=taken_at,
        clock=clock,
        figures=ask("figures", cluster=cluster),
        counts=ask("counts"),
        workers=[each for each in workers if each["state"] in {"admitted", "draining"}],
        running=sorted(running, key=lambda each: each["started_at"] or each["submitted_at"]),
        failures=sorted(wrong, key=lambda each: each["finished_at"] or 0.0, reverse=True)[:_FAILURES],
    )


def rate(before: Snapshot | None, now: Snapshot, cluster: str) -> float | None:
    """Operations that ended each second between two looks; None where there was only one.

    What the store forgets meanwhile is not below zero.
    """
    if before is None or now.clock <= before.clock:
        return None
    return max(0.0, (now.ended(cluster) - before.ended(cluster)) / (now.clock - before.clock))


def as_data(before: Snapshot | None, now: Snapshot) -> dict[str, Any]:
    """The look for programs."""
    return {
        "taken_at": now.taken_at,
        "clusters": [{**each, "ended_each_second": rate(before, now, each["cluster"])} for each in now.figures],
        "workers": list(now.workers),
        "in_flight": list(now.running),
        "failures": list(now.failures),
    }
