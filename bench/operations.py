"""Operations end to end: accepted, granted, executed by a driver that does nothing, settled.

One manager (this process) on SQLite, two workers in processes of their own, a real broker.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from broker import Broker
from processes import cpu_seconds, memory_bytes
from rig import Rig, nothing_driver, rig
from tables import show
from timeline import Timeline

_CLUSTER = "bench"
_WORKERS = ("bench-w0", "bench-w1")
_PROMISED_RATE = 200.0
_PROMISED_ALONE_MS = 25.0


def measure(broker: Broker, *, quick: bool) -> dict[str, Any]:
    """Latency of one alone, throughput of many, where the time goes, what memory it takes."""
    count, rounds, alone = (1000, 2, 50) if quick else (3000, 3, 200)
    with rig(broker) as here:
        here.make_cluster(_CLUSTER)
        here.start_workers(_CLUSTER, _WORKERS, nothing_driver())
        instances = here.make_instances(_CLUSTER, 50)
        timeline = Timeline(here.running, here.listeners)
        latencies = _alone(here, timeline, instances[0], alone)
        phases_alone = timeline.phases()
        timeline.forget()
        turns = [_throughput(here, timeline, instances, count) for _ in range(rounds)]
        batches = list(timeline.batches)
        result = {
            "operations_per_second": statistics.median(turn["per_second"] for turn in turns),
            "alone_p50_ms": statistics.median(latencies),
            "alone_p99_ms": sorted(latencies)[int(len(latencies) * 0.99)],
            "phases_alone": phases_alone,
            "phases_under_load": timeline.phases(),
            "results_per_transaction": sum(n for n, _ in batches) / len(batches),
            "transaction_ms": statistics.median(seconds for _, seconds in batches) * 1000,
            "processor_ms_per_operation": _by_process(turns, count),
            "resident_mib": _memory(here),
        }
    _report(result)
    return result


def _alone(here: Rig, timeline: Timeline, instance: str, count: int) -> list[float]:
    """Milliseconds from submission to outcome, one operation at a time."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        record = here.submit("unpause" if number % 2 else "pause", instance=instance)
        timeline.note(record.id, "submitted", began)
        timeline.note(record.id, "accepted")
        here.wait([record.id])
        taken.append((here.finished[record.id] - began) * 1000)
    return taken


def _throughput(here: Rig, timeline: Timeline, instances: list[str], count: int) -> dict[str, Any]:
    """All submitted as fast as they are accepted, by one caller, in turn over the instances."""
    before = _cpu(here)
    began = time.perf_counter()
    ids = []
    for number in range(count):
        at = time.perf_counter()
        turn, which = divmod(number, len(instances))
        record = here.submit("unpause" if turn % 2 else "pause", instance=instances[which])
        timeline.note(record.id, "submitted", at)
        timeline.note(record.id, "accepted")
        ids.append(record.id)
    accepted = time.perf_counter() - began
    here.wait(ids)
    seconds = max(here.finished[each] for each in ids) - began
    after = _cpu(here)
    cpu = {name: after[name] - before[name] for name in after}
    return {"per_second": count / seconds, "accepted_per_second": count / accepted, "cpu": cpu}


def _pids(here: Rig) -> dict[str, int]:
    found = {"manager": os.getpid(), **{name: process.pid for name, process in here.workers.items()}}
    return found if here.broker.pid is None else {**found, "broker": here.broker.pid}


def _cpu(here: Rig) -> dict[str, float]:
    found = {name: cpu_seconds(pid) for name, pid in _pids(here).items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def _memory(here: Rig) -> dict[str, float]:
    found = {name: memory_bytes(pid) for name, pid in _pids(here).items()}
    return {name: size / (1 << 20) for name, size in found.items() if size is not None}


def _by_process(turns: list[dict[str, Any]], count: int) -> dict[str, float]:
    return {name: statistics.median(turn["cpu"][name] for turn in turns) / count * 1000 for name in turns[0]["cpu"]}


def _report(result: dict[str, Any]) -> None:
    rate, alone = result["operations_per_second"], result["alone_p50_ms"]
    rows = [
        {"what": "operations per second", "value": rate, "goal": ">= 200", "met": rate >= _PROMISED_RATE},
        {"what": "one alone, p50 ms", "value": alone, "goal": "<= 25", "met": alone <= _PROMISED_ALONE_MS},
        {"what": "one alone, p99 ms", "value": result["alone_p99_ms"]},
        {"what": "results in one transaction", "value": result["results_per_transaction"]},
        {"what": "that transaction, p50 ms", "value": result["transaction_ms"]},
    ]
    show("Operations end to end", rows, {"what": "what", "value": "value", "goal": "goal", "met": "met"})
    show("Where the time goes, one alone", result["phases_alone"])
    show("Where the time goes, under load", result["phases_under_load"])
    memory = result["resident_mib"]
    processes = [
        {"process": name, "processor_ms": each, "mib": memory.get(name)}
        for name, each in result["processor_ms_per_operation"].items()
    ]
    headings = {"process": "process", "processor_ms": "processor ms per operation", "mib": "resident MiB"}
    show("What an operation takes of each process (the broker has other users)", processes, headings)
