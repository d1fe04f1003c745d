"""Manager and workers of two releases serve one installation, and are exchanged one by one under load.

Nothing is lost, doubled, reordered or refused: the history checker judges the manager's store against the log that the
hypervisor itself keeps.
"""

from __future__ import annotations

import random
import signal
import threading

import pytest
from acceptance.estate import CLUSTER, SETTLED, life

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow]

PACE = 0.02
MACHINES, LENGTH = 6, 12


def load(estate, machines, length=LENGTH, stop=None):
    """Submit lives of machines; without ``stop`` each of this length, else until it is set.  Returns the operations."""
    chances = {machine: random.Random(f"{machine} {length}") for machine in machines}
    lives = {machine: life(length if stop is None else 10_000, chances[machine]) for machine in machines}
    submitted, number = [], 0
    while lives and not (stop is not None and stop.is_set()):
        for machine in list(lives):
            step = next(lives[machine], None)
            if step is None:
                del lives[machine]
                continue
            number += 1
            name, arguments = step
            key = f"{machine} {length} {number}"
            submitted.append(estate.submit(name, instance=machine, arguments=arguments, idempotency_key=key))
        if stop is not None:
            stop.wait(0.2)
    return submitted


def all_succeeded(estate, operations):
    ends = {operation["id"]: estate.settle(operation) for operation in operations}
    assert {end["state"] for end in ends.values()} == {"succeeded"}, [
        (end["name"], end["state"], end["outcome"]) for end in ends.values() if end["state"] != "succeeded"
    ][:5]


def judged_clean(estate):
    report = estate.judge()
    assert report.clean, report.findings[:5]


@pytest.mark.parametrize("newer", ["worker", "manager"])
def test_manager_and_worker_of_two_releases_work_together(estate, previous, tree, newer):
    releases = {"manager": previous, "worker": tree} if newer == "worker" else {"manager": tree, "worker": previous}
    estate.using = releases["manager"]
    estate.start_manager()
    estate.ask("create_cluster", cluster=CLUSTER, driver="simulated", partitions=8)
    estate.using = releases["worker"]
    for name in ("w1", "w2"):
        estate.start_worker(name, PACE)
    estate.until_admitted("w1", "w2")
    machines = estate.make(MACHINES)
    all_succeeded(estate, load(estate, machines))
    assert "Traceback" not in estate.log("manager") + estate.log("w1") + estate.log("w2")
    judged_clean(estate)


class Load(threading.Thread):
    """Keeps submitting in the background; ``finish`` gives all that it submitted."""

    def __init__(self, estate, machines):
        super().__init__(daemon=True)
        self._stop_asked = threading.Event()
        self._work = lambda: load(estate, machines, stop=self._stop_asked)
        self.submitted, self.failure = [], None

    def run(self):
        try:
            self.submitted = self._work()
        except BaseException as error:  # noqa: BLE001 (told by finish)
            self.failure = error

    def finish(self):
        self._stop_asked.set()
        self.join(60)
        if self.failure is not None:
            raise self.failure
        return self.submitted


def exchange_worker(estate, name, successor, installation):
    """Start the successor from another release, then let the worker finish and leave."""
    estate.using = installation
    estate.start_worker(successor, PACE)
    estate.until_admitted(successor)
    process = estate.processes[name]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, estate.log(name)[-2000:]


def exchange_manager(estate, name, successor, installation, *, back_from=None):
    """Stop the manager, start its successor from another release on the same store; an older one needs its tables."""
    process = estate.processes[name]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, estate.log(name)[-2000:]
    if back_from is not None:
        take_store_back(estate, back_from, installation)
    estate.using = installation
    estate.start_manager(successor)


def take_store_back(estate, newer, older):
    """The newer release brings the tables back to what the older one knows; no manager may run."""
    estate.using = newer
    revision = older.python("from federation.store.migrate import HEAD; print(HEAD)")
    done = estate.run("store", "downgrade", "--to", revision, "--yes")
    assert done.returncode == 0, done.stderr


def test_three_workers_and_the_manager_are_upgraded_and_rolled_back_one_by_one_under_load(estate, previous, tree):
    estate.using = previous
    estate.start("old-1", "old-2", "old-3", pace=PACE, partitions=8)
    machines = estate.make(MACHINES)
    running = Load(estate, machines)
    running.start()
    exchange_worker(estate, "old-1", "new-1", tree)
    exchange_manager(estate, "manager", "manager-new", tree)
    for number in (2, 3):
        exchange_worker(estate, f"old-{number}", f"new-{number}", tree)
    exchange_worker(estate, "new-1", "again-1", previous)
    exchange_manager(estate, "manager-new", "manager-again", previous, back_from=tree)
    for number in (2, 3):
        exchange_worker(estate, f"new-{number}", f"again-{number}", previous)
    submitted = running.finish()
    assert len(submitted) > MACHINES * LENGTH
    all_succeeded(estate, submitted)
    counts = estate.settle_all()
    assert set(counts) - SETTLED <= {"parked"}
    assert counts.get("parked", 0) == 0
    judged_clean(estate)
