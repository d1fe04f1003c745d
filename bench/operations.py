"""Operations end to end: accepted, granted, executed by a driver that does nothing, settled.

One manager (this process), workers in processes of their own, a real broker.  Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from federation.bootstrap.managers import RunningManager, run_manager
from federation.contract.outcomes import Outcome
from federation.manager.settings import ManagerSettings
from federation.manager.submitting import Submission
from federation.protocol.records import OperationRecord

CLUSTER = "bench"
TEMPLATE = {"kind": "image", "url": "http://bench/image", "checksum": "sha256:" + "0" * 64, "format": "qcow2"}


@contextmanager
def workers(broker: str, folder: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes whose driver does nothing."""
    config = folder / "driver.toml"
    config.write_text("[driver]\nnothing = true\n")
    command = [sys.executable, "-m", "federation.cli", "--broker", broker, "worker", "--driver", "simulated"]
    command += ["--cluster", CLUSTER, "--driver-config", str(config), "--max-operations", "64"]
    processes = []
    for number in range(count):
        log = (folder / f"worker-{number}.log").open("wb")
        processes.append(subprocess.Popen([*command, "--id", f"w{number}"], stdout=log, stderr=log))  # noqa: S603
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def wait_for_workers(running: RunningManager, count: int) -> None:
    """Until all are admitted and the inventory is known."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        live = [w for w in running.manager.admitting.workers(CLUSTER) if w.state == "admitted"]
        if len(live) >= count and running.manager.estate.nodes(CLUSTER):
            return
        time.sleep(0.2)
    raise SystemExit("the workers did not come up within 60 s")


class Outcomes:
    """Waits for outcomes by operation id."""

    def __init__(self, running: RunningManager) -> None:
        self._changed = threading.Condition()
        self.finished: dict[str, float] = {}
        running.manager.results.listeners.append(self._settled)

    def _settled(self, record: OperationRecord, outcome: Outcome) -> None:
        if outcome.kind != "succeeded":
            print(f"{record.name} {record.id}: {outcome.kind} {outcome.code} {outcome.message}", file=sys.stderr)
        with self._changed:
            self.finished[record.id] = time.perf_counter()
            self._changed.notify_all()

    def wait(self, ids: set[str], seconds: float = 120) -> None:
        """Until all of them have an outcome."""
        with self._changed:
            if not self._changed.wait_for(lambda: ids <= self.finished.keys(), seconds):
                raise SystemExit(f"{len(ids - self.finished.keys())} operations without an outcome after {seconds} s")


def submit(running: RunningManager, name: str, cluster: str | None = None, **arguments: Any) -> OperationRecord:
    """Submit in this process."""
    return running.manager.submitting.submit(Submission(name=name, cluster=cluster, arguments=arguments))


def make_instances(running: RunningManager, outcomes: Outcomes, count: int) -> list[str]:
    """Instances to operate on."""
    flavour = {"vcpus": 1, "memory_bytes": 1 << 26}
    made = [
        submit(running, "create", CLUSTER, spec={"name": f"bench-{n}", "flavour": flavour, "boot": TEMPLATE})
        for n in range(count)
    ]
    outcomes.wait({record.id for record in made})
    return [record.key for record in made]


def throughput(running: RunningManager, outcomes: Outcomes, instances: list[str], count: int) -> float:
    """Operations per second, all submitted as fast as they are accepted."""
    began = time.perf_counter()
    ids = {
        submit(running, "pause" if n // len(instances) % 2 == 0 else "unpause", instance=instances[n % len(instances)]).id
        for n in range(count)
    }
    accepted = time.perf_counter()
    outcomes.wait(ids)
    took = max(outcomes.finished[i] for i in ids) - began
    print(f"accepted {count / (accepted - began):.0f}/s, finished {count / took:.0f}/s", file=sys.stderr)
    return count / took


def latency(running: RunningManager, outcomes: Outcomes, instance: str, count: int) -> list[float]:
    """Seconds from submission to outcome, one at a time."""
    taken = []
    for n in range(count):
        began = time.perf_counter()
        record = submit(running, "pause" if n % 2 == 0 else "unpause", instance=instance)
        outcomes.wait({record.id})
        taken.append(outcomes.finished[record.id] - began)
    return taken


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--store", help="default: SQLite in a new folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--operations", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = run_manager(options.broker, options.store or f"sqlite:///{folder / 'm.sqlite'}", ManagerSettings())
        try:
            running.manager.estate.create_cluster(CLUSTER, "simulated")
            with workers(options.broker, folder, options.workers):
                wait_for_workers(running, options.workers)
                outcomes = Outcomes(running)
                instances = make_instances(running, outcomes, options.instances)
                alone = latency(running, outcomes, instances[0], 100)
                rates = [throughput(running, outcomes, instances, options.operations) for _ in range(3)]
                result = {
                    "operations_per_second": statistics.median(rates),
                    "alone_p50_ms": statistics.median(alone) * 1000,
                    "alone_p99_ms": sorted(alone)[int(len(alone) * 0.99) - 1] * 1000,
                }
        finally:
            running.stop()
    for title, value in result.items():
        print(f"{title:<24} {value:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
