"""After a restore nothing of the lost time line acts any more, and the machines can be operated again (real broker)."""

from __future__ import annotations

import json

import pytest
from acceptance.estate import CLUSTER
from faults.test_epochs import Load

from federation.testing.hypervisor.log import read_log

FIRST_UNSEEN_EPOCH = 20_000_000


def compared(estate):
    """What `cluster compare` says, which ends with 1 where there are differences."""
    done = estate.run("--output", "json", "cluster", "compare", CLUSTER)
    return json.loads(done.stdout)


def effects(estate):
    return {(each.operation, each.sequence) for each in read_log(estate.state).effects}


@pytest.mark.timeout(300)
def test_what_workers_and_queues_hold_of_a_lost_time_line_is_refused_after_a_restore(make_estate, tmp_path):
    estate = make_estate(options={"FEDERATION_MANAGER_GRANTS": "50"})
    estate.start("w1", "w2", pace=0.1, partitions=4)
    instances = estate.make(6)
    saved = tmp_path / "backup"
    with Load(estate, instances) as load:
        load.wait_for(20)
        done = estate.run("backup", str(saved))
        assert done.returncode == 0, done.stderr
        load.wait_for(40)
        late = estate.create("made-after-the-backup")
        estate.settle(late)
        refused = estate.run("restore", str(saved), "--force")
        assert refused.returncode != 0
        assert "managers work on this store: manager" in refused.stderr
        estate.kill("manager")
        load._stopped.set()
    estate.until(lambda: estate.run("restore", str(saved), "--force").returncode == 0, 60)
    before = effects(estate)
    estate.start_manager()

    facts = estate.until(lambda: (f := estate.ask("epoch", cluster=CLUSTER))["phase"] == "steady" and f, 90)
    assert facts["epoch"] > FIRST_UNSEEN_EPOCH
    during = {operation for operation, _ in effects(estate) - before}
    parked = [record["id"] for record in estate.ask("instances", cluster=CLUSTER) if record["parked_by"]]
    assert parked  # the load had something on its way at the backup
    for instance in parked:
        estate.ask("resolve", instance=instance, resolution="accept")
    told = compared(estate)
    kinds = {(each["instance"], each["kind"]) for each in told["differences"]}
    assert (late["key"], "unknown") in kinds
    assert estate.run("cluster", "compare", CLUSTER, "--write").returncode == 1
    left = [each for each in compared(estate)["differences"] if each["kind"] != "unknown"]
    assert left == []

    adopted = estate.submit(
        "adopt", cluster=CLUSTER, arguments=_adoption(told, late["key"]), idempotency_key="adopt what is not known"
    )
    assert estate.settle(adopted)["state"] == "succeeded"
    new = [estate.change("power_off", instance, mode="hard") for instance in [*instances, late["key"]]]
    new += [estate.change("power_on", instance) for instance in [*instances, late["key"]]]
    assert {estate.settle(operation)["state"] for operation in new} == {"succeeded"}
    ours = {operation["id"] for operation in [*new, adopted]}
    acted = {operation for operation, _ in effects(estate) - before}
    # What a worker was in the middle of when its manager died ended within its lease; nothing of that time began later.
    assert acted - during <= ours
    counts = estate.settle_all()
    assert counts.get("parked", 0) == 0


def _adoption(told, identity):
    (found,) = [each for each in told["differences"] if each["instance"] == identity]
    return {"instance": identity, "name": found["name"], "node": found["found"].removeprefix("on ")}
