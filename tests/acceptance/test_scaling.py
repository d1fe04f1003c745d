"""The scaling signal is enough to scale by: workers come and go by it under a load that rises and falls."""

import random
import re
import signal
import time

import pytest
from acceptance.estate import CLUSTER, life
from acceptance.scaler import Scaler

SLOTS = 2
PACE = 0.6
PEAK_SECONDS = 12.0
PER_SECOND = {"quiet": 1, "peak": 12}
PATIENCE = 150.0


class Crew:
    """The workers that the scaler hires, the newest leaves first."""

    def __init__(self, estate):
        self._estate = estate
        self._names = (f"w{number}" for number in range(1, 100))
        self.present = []
        self.left = []

    def add(self):
        self.present.append(next(self._names))
        self._estate.start_worker(self.present[-1], PACE)

    def remove(self):
        self.left.append(self.present.pop())
        self._estate.kill(self.left[-1], signal.SIGTERM)


class Load:
    """Operations on random machines, so many a second."""

    def __init__(self, estate, instances):
        self._estate = estate
        self._chance = random.Random(17)
        self._lives = {instance: life(10_000, random.Random(instance)) for instance in instances}
        self._owed = 0.0
        self._last = time.monotonic()
        self.submitted = 0

    def go_on(self, per_second):
        now = time.monotonic()
        self._owed = min(self._owed + (now - self._last) * per_second, 2.0 * per_second)
        self._last = now
        while self._owed >= 1:
            self._owed -= 1
            instance = self._chance.choice(list(self._lives))
            name, arguments = next(self._lives[instance])
            self._estate.change(name, instance, **arguments)
            self.submitted += 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_come_and_go_by_the_signal_and_nothing_is_lost_or_reordered(make_estate):
    estate = make_estate(
        options={"FEDERATION_MANAGER_METRICS": "127.0.0.1:0", "FEDERATION_WORKER_MAX_OPERATIONS": str(SLOTS)}
    )
    estate.start_manager()
    estate.ask("create_cluster", cluster=CLUSTER, driver="simulated", partitions=16)
    crew = Crew(estate)
    crew.add()
    estate.until_admitted("w1")
    load = Load(estate, estate.make(16))
    url = re.findall(r"metrics on (\S+)", estate.log("manager"))[0]
    scaler = Scaler(url, CLUSTER, crew.add, crew.remove, most=3)

    def during(per_second, over, seconds):
        deadline = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < deadline, scaler.looks[-5:]
            load.go_on(per_second)
            scaler.look()
            time.sleep(0.25)

    quiet_ends, began = time.monotonic() + 4, len(scaler.looks)
    during(PER_SECOND["quiet"], lambda: time.monotonic() > quiet_ends, 60)
    assert max(look.wanted for look in scaler.looks[began:]) == 1, "a trickle needs one worker"
    peak_ends = time.monotonic() + PEAK_SECONDS
    during(
        PER_SECOND["peak"],
        lambda: time.monotonic() > peak_ends and scaler.looks[-1].admitted == scaler.most,
        PATIENCE,
    )
    highest = max(look.backlog_seconds for look in scaler.looks)
    assert highest > scaler.high
    during(0, lambda: scaler.looks[-1].admitted == scaler.wanted == scaler.least, PATIENCE)
    assert len(crew.left) == scaler.most - scaler.least
    for name in crew.left:
        assert estate.processes[name].wait(60) == 0
    counts = estate.settle_all()
    assert set(counts) - {"parked"} == {"succeeded"}
    assert counts["succeeded"] == load.submitted + 16
    records = [record for page in pages(estate) for record in page]
    assert {record["attempt"] for record in records} == {1}, "a worker that leaves finishes what it runs"
    assert {record["worker"] for record in records} == {"w1", *crew.left}
    report = estate.judge()
    assert report.clean, report.to_text()


def pages(estate):
    before = None
    while page := estate.ask("operations", limit=1000, **({"before": before} if before else {})):
        yield page
        before = page[-1]["id"]
