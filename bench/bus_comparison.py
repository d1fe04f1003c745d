"""The bus against its peers: oslo.messaging's rabbit driver with quorum queues, and a bare py-amqp loop.

All contestants stand at the same time and take turns of a few seconds on one broker; ratios are taken within a round, so
that what else the machine does hits all alike.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker import Broker
from contestants import KINDS
from tables import show

_PROGRAM = Path(__file__).with_name("contestants.py")
_PATIENCE = 180.0
CALLERS = (1, 8, 32, 128)
_CAST_CALLERS = (1, 32)


class Side:
    """A contestant's process."""

    def __init__(self, role: str, kind: str, url: str, topic: str) -> None:
        command = [sys.executable, str(_PROGRAM), role, kind, url, topic]
        self.what = f"{role} of {kind}"
        quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet)  # noqa: S603

    def ready(self) -> None:
        """Wait for its first line."""
        self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One line there, one line back."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], _PATIENCE)[0]:
            raise SystemExit(f"the {self.what} said nothing for {_PATIENCE:.0f} s")
        line = stdout.readline()
        if not line:
            raise SystemExit(f"the {self.what} ended with status {self._process.wait(10)}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End of its input is its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A contestant's two processes."""

    kind: str
    server: Side
    client: Side

    def run(self, how: str, callers: int, seconds: float) -> dict[str, Any]:
        """One turn; of casts, until the server has handled them all."""
        before = self.server.ask()["handled"]
        began = time.perf_counter()
        found = self.client.ask(how=how, callers=callers, seconds=seconds)
        deadline = time.monotonic() + _PATIENCE
        while self.server.ask()["handled"] < before + found["count"]:
            if time.monotonic() > deadline:
                raise SystemExit(f"the {self.server.what} lost some of {found['count']} requests")
            time.sleep(0.02)
        if how == "cast":
            found["handled_per_second"] = found["count"] / (time.perf_counter() - began)
        return found


def compare(broker: Broker, *, quick: bool, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """Run all turns; returns medians and ratios."""
    rounds, seconds = (2, 1.0) if quick else (5, 2.0)
    plan = [("call", n) for n in CALLERS] + [("cast", n) for n in _CAST_CALLERS]
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        pairs = [_pair(stack, kind, broker.url) for kind in kinds]
        for pair in pairs:
            pair.run("call", 8, 0.5)  # connections, queues and caches
        for number in range(rounds):
            print(f"bus: round {number + 1} of {rounds}", file=sys.stderr)
            for how, callers in plan:
                for pair in pairs[number % len(pairs) :] + pairs[: number % len(pairs)]:
                    found.setdefault((how, callers, pair.kind), []).append(pair.run(how, callers, seconds))
    result = {"rounds": rounds, "seconds": seconds, "turns": _digest(found), "goals": _goals(found)}
    _report(result)
    return result


def _pair(stack: ExitStack, kind: str, url: str) -> Pair:
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    sides = []
    for role in ("server", "client"):
        side = Side(role, kind, url, topic)
        stack.callback(side.close)
        side.ready()
        sides.append(side)
    return Pair(kind, *sides)


def _digest(found: dict[tuple[str, int, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row per kind of turn and contestant, with its ratios to the two peers."""
    rows = []
    for (how, callers, kind), turns in found.items():
        row = {"how": how, "callers": callers, "contestant": kind}
        for measure in turns[0]:
            row[measure] = statistics.median(turn[measure] for turn in turns)
        row["p50_ms_of_each_turn"] = [turn["p50_ms"] for turn in turns]
        for peer in ("rabbit", "bare"):
            if (how, callers, peer) in found:
                row[f"throughput_to_{peer}"] = _ratio(found, how, callers, (kind, peer), _speed(how))
                row[f"p50_to_{peer}"] = _ratio(found, how, callers, (kind, peer), "p50_ms")
        rows.append(row)
    return rows


def _speed(how: str) -> str:
    return "per_second" if how == "call" else "handled_per_second"


def _ratio(
    found: dict[tuple[str, int, str], list[dict[str, Any]]],
    how: str,
    callers: int,
    pair: tuple[str, str],
    measure: str,
) -> float:
    ours, theirs = (found[how, callers, kind] for kind in pair)
    return statistics.median(a[measure] / b[measure] for a, b in zip(ours, theirs, strict=True))


def _goals(found: dict[tuple[str, int, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the design promises of ordered calls."""
    ordered = "federation-ordered"
    promises = [
        ("throughput to rabbit driver, 32 callers", 32, "rabbit", "per_second", ">=", 3.5),
        ("throughput to bare loop, 32 callers", 32, "bare", "per_second", ">=", 0.6),
        ("p50 to rabbit driver, 1 caller", 1, "rabbit", "p50_ms", "<=", 0.5),
    ]
    rows = []
    for what, callers, peer, measure, sense, goal in promises:
        if ("call", callers, peer) not in found or ("call", callers, ordered) not in found:
            continue
        value = _ratio(found, "call", callers, (ordered, peer), measure)
        met = value >= goal if sense == ">=" else value <= goal
        rows.append({"what": what, "ratio": value, "goal": f"{sense} {goal}", "met": met})
    return rows


def _report(result: dict[str, Any]) -> None:
    columns = {
        "how": "how", "callers": "callers", "contestant": "contestant", "per_second": "per s",
        "handled_per_second": "handled per s", "p50_ms": "p50 ms", "p99_ms": "p99 ms",
        "throughput_to_rabbit": "x rabbit", "p50_to_rabbit": "p50 / rabbit", "throughput_to_bare": "x bare",
    }  # fmt: skip
    show("The bus and its peers, medians of interleaved turns", result["turns"], columns)
    show("What is promised of ordered calls", result["goals"])
