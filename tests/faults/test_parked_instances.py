"""An instance whose last outcome nobody knows waits for a person, who resolves it with one command (DESIGN §6.3)."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from acceptance.conftest import make_estates

from federation.contract.errors import InvalidState, Parked
from federation.store import open_store
from federation.testing.faults import Action, Fault, FaultControl, Phase

CAUSES = {
    "outcome_unknown": {"action": Action.RAISE, "code": "outcome_unknown", "phase": Phase.BEFORE},
    "driver_bug": {"action": Action.BUG, "phase": Phase.AFTER},
}
WORDS = {"accept": "accepted", "abandon": "abandoned", "retry": "retried as "}
LEASE, MARGIN = 40.0, 0.5
"""Long enough that a command line on a loaded machine comes before its end."""


def make_installation(rabbitmq, tmp_path_factory, **settings):
    made, make = make_estates(rabbitmq, tmp_path_factory)
    estate = make(**settings)
    estate.start("w1", "w2", partitions=4)
    yield estate
    for one in made:
        one.end()


@pytest.fixture(scope="module")
def patient(rabbitmq, tmp_path_factory):
    yield from make_installation(rabbitmq, tmp_path_factory, lease=LEASE, margin=MARGIN)


@pytest.fixture(scope="module")
def quick(rabbitmq, tmp_path_factory):
    yield from make_installation(rabbitmq, tmp_path_factory)


class ParkedMachine:
    """A machine whose suspend has an unknown outcome, with two operations that wait behind it."""

    def __init__(self, estate, cause, decision):
        self.estate, self.cause, self.decision = estate, cause, decision
        self.name = f"{decision}-{cause.replace('_', '-')}-{random.getrandbits(32):08x}"
        made = estate.create(self.name)
        assert estate.settle(made)["state"] == "succeeded"
        self.instance = made["key"]
        where = {"operation": "suspend", "instance": self.instance}
        control = FaultControl(estate.state)
        held = control.plant(Fault(action=Action.HANG, **where))
        control.plant(Fault(**where, **CAUSES[cause]))
        self.operation = estate.change("suspend", self.instance)
        self.waiting = [estate.change(name, self.instance) for name in ("resume", "pause")]
        control.release(held)
        self.outcome = estate.settle(self.operation)
        self.parked_at = time.monotonic()

    def resolve(self):
        return self.estate.run("instance", "resolve", self.name, f"--{self.decision}", timeout=120)

    def operations(self):
        return [self.estate.ask("operation", operation=o["id"]) for o in (self.operation, *self.waiting)]

    def record(self):
        return self.estate.ask("instance", instance=self.name)

    def until_resolved(self):
        return self.estate.until(lambda: (done := self.resolve()).returncode == 0 and done, 120)


@pytest.mark.timeout(400)
def test_unknown_outcomes_park_until_a_person_resolves_them_and_not_within_one_lease(patient):
    estate = patient
    parked = [ParkedMachine(estate, cause, decision) for cause in CAUSES for decision in WORDS]
    for one in parked:
        assert (one.outcome["state"], one.outcome["outcome"]["code"]) == ("unknown", one.cause)
        assert one.record()["parked_by"] == one.operation["id"]
        with pytest.raises(InvalidState, match="parked just now"):
            estate.ask("resolve", instance=one.name, resolution=one.decision)
        with pytest.raises(Parked, match="resolve it first: federation instance resolve"):
            estate.ask("submit", name="power_off", instance=one.name)
    last = parked[-1]
    refused = last.resolve()
    assert time.monotonic() - last.parked_at < LEASE, "too slow to see the refusal: make the lease longer"
    assert refused.returncode == 3
    assert "try again then" in refused.stderr
    shown = {i["name"]: i["parked_by"] for i in estate.json("instance", "list")}
    assert all(shown[one.name] == one.operation["id"] for one in parked)
    assert all([o["state"] for o in one.operations()] == ["unknown", "queued", "queued"] for one in parked)

    with ThreadPoolExecutor(2) as pool:
        resolved = list(pool.map(ParkedMachine.until_resolved, parked))
    assert time.monotonic() - last.parked_at >= LEASE
    for one, done in zip(parked, resolved, strict=True):
        first, *waited = one.operations()
        assert first["state"] == "unknown"
        assert first["resolution"].startswith(WORDS[one.decision])
        for operation in waited:
            assert (operation["state"], operation["outcome"]["code"]) == ("refused", "parked")
            assert one.operation["id"] in operation["outcome"]["message"]
        assert one.record()["parked_by"] is None
        if one.decision == "retry":
            assert "succeeded" in done.stdout
            assert one.record()["state"] == "suspended"
        with pytest.raises(InvalidState, match="is not parked"):
            estate.ask("resolve", instance=one.name, resolution=one.decision)
        live = estate.ask("read", name="get_instance", instance=one.name)["power_state"]
        following = estate.change("resume" if live == "suspended" else "pause", one.name)
        assert estate.settle(following)["state"] == "succeeded"
    report = estate.judge()
    assert report.clean, report.to_text()


@pytest.mark.timeout(240)
def test_a_create_that_is_accepted_is_there_and_one_that_is_abandoned_can_only_be_deleted(quick):
    estate = quick
    control = FaultControl(estate.state)
    for decision in ("accept", "abandon"):
        control.plant(Fault(operation="create", **CAUSES["driver_bug"]))
        made = estate.create(f"made-{decision}")
        assert estate.settle(made)["state"] == "unknown"
        estate.until(lambda d=decision: estate.run("instance", "resolve", f"made-{d}", f"--{d}").returncode == 0, 60)
        if decision == "abandon":
            with pytest.raises(InvalidState, match="can only be deleted"):
                estate.change("power_on", made["key"])
        assert estate.settle(estate.change("destroy", made["key"]))["state"] == "succeeded"
    report = estate.judge()
    assert report.clean, report.to_text()


@pytest.mark.timeout(240)
def test_a_running_operation_that_is_cancelled_is_undone(quick):
    estate = quick
    control = FaultControl(estate.state)
    held = control.plant(Fault(action=Action.HANG, operation="create"))
    running = estate.create("undone")
    estate.until(lambda: control.firings(held), 30)
    assert estate.run("operation", "cancel", running["id"], "--no-wait").returncode == 0
    until_renewed_twice(estate, running["id"])
    control.release(held)
    record = estate.settle(running)
    assert (record["state"], record["outcome"]["code"]) == ("failed", "cancelled")
    assert estate.run("operation", "watch", running["id"]).returncode == 1
    history = estate.history()
    assert [effect.kind for effect in history.effects if effect.operation == running["id"]] != []
    (left,) = [final.seen for final in history.finals if final.key == running["key"]] or [None]
    assert left is None or not (left.disks or left.power_state)
    assert estate.ask("instance", instance="undone")["state"] == "failed"
    report = estate.judge()
    assert report.clean, report.to_text()


def until_renewed_twice(estate, operation):
    """Then the worker has been told of the wish to cancel."""
    store = open_store(estate.store)

    def last_answer():
        with store.reading() as transaction:
            return transaction.operations([operation])[operation].last_answer

    try:
        for _ in range(2):
            before = last_answer()
            estate.until(lambda before=before: last_answer() != before, 30)
    finally:
        store.close()


@pytest.mark.timeout(240)
def test_a_deadline_that_passes_and_a_cancel_end_what_nobody_could_start(make_estate):
    estate = make_estate()
    estate.start("w1", partitions=4)
    late, unwanted = estate.make(2)
    estate.kill("w1")
    overdue = estate.submit("pause", instance=late, deadline_seconds=1.0)
    behind = estate.submit("reboot", instance=late, arguments={"mode": "hard"})
    ended = estate.settle(overdue, 30)
    assert (ended["state"], ended["outcome"]["code"], ended["attempt"]) == ("refused", "deadline_passed", 0)
    cancelled = estate.change("pause", unwanted)
    done = estate.run("operation", "cancel", cancelled["id"])
    assert done.returncode == 0, done.stderr
    record = estate.ask("operation", operation=cancelled["id"])
    assert (record["state"], record["outcome"]["code"]) == ("refused", "cancelled")
    assert estate.ask("operation", operation=behind["id"])["state"] == "queued"
    estate.start_worker("w1")
    assert estate.settle(behind)["state"] == "succeeded"
    report = estate.judge()
    assert report.clean, report.to_text()
