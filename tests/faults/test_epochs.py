"""Another number of partitions, and a broker that lost everything, under load: nothing lost, doubled, out of order."""

import signal

import pytest
from acceptance.estate import CLUSTER
from faults.load import Load, nothing_is_lost

from federation.store import open_store

SETTLE_SECONDS = 120


def queues_of(broker, estate):
    vhost = estate.broker.rpartition("/")[2]
    told = broker.ctl("list_queues", "-q", "-p", vhost, "name", "--no-table-headers")
    return {line for line in told.split() if f"federation.{CLUSTER}.e" in line}


@pytest.mark.timeout(300)
def test_the_number_of_partitions_changes_twice_under_load_by_one_command_each(make_estate, rabbitmq):
    estate = make_estate(options={"FEDERATION_MANAGER_GRANTS": "50"})
    estate.start("w1", "w2", pace=0.02, partitions=4)
    with Load(estate, estate.make(8)) as load:
        for epoch, partitions in ((2, 7), (3, 2)):
            load.wait_for(40)
            done = estate.json("cluster", "repartition", CLUSTER, "--partitions", str(partitions))
            assert (done["epoch"], done["partitions"], done["phase"]) == (epoch, partitions, "steady")
            wanted = {f"federation.{CLUSTER}.e{epoch}.p{number}" for number in range(partitions)}
            assert queues_of(rabbitmq, estate) == wanted
            load.wait_for(40)
    assert load.refused > 0
    nothing_is_lost(estate, load, SETTLE_SECONDS)


@pytest.mark.timeout(300)
def test_a_manager_that_is_killed_on_the_way_to_another_number_of_partitions_is_followed_by_one_that_goes_on(
    make_estate,
):
    estate = make_estate(options={"FEDERATION_MANAGER_GRANTS": "50"})
    estate.start("w1", "w2", pace=0.02, partitions=4)
    with Load(estate, estate.make(8)) as load:
        load.wait_for(40)
        estate.ask("repartition", cluster=CLUSTER, partitions=9)
        estate.kill("manager")
        estate.start_manager()
        estate.until(lambda: estate.ask("epoch", cluster=CLUSTER)["phase"] == "steady", 60)
        assert estate.ask("epoch", cluster=CLUSTER)["partitions"] == 9
        load.wait_for(40)
    nothing_is_lost(estate, load, SETTLE_SECONDS)


@pytest.mark.timeout(300)
def test_a_broker_that_lost_all_its_data_under_load_is_filled_again_by_one_command(
    make_breakable_estate, breakable_rabbitmq
):
    # Sweeps, which would bring it back by themselves in time, do not come within this test.
    estate = make_breakable_estate(options={"FEDERATION_MANAGER_GRANTS": "50", "FEDERATION_MANAGER_SWEEP_AFTER": "600"})
    estate.start("w1", "w2", pace=0.05, partitions=4)
    busy, quiet = estate.make(8), estate.make(4, "quiet")
    with Load(estate, busy) as load:
        load.wait_for(60)
        for worker in ("w1", "w2"):
            estate.kill(worker, signal.SIGSTOP)
        waiting = [estate.change("pause", instance) for instance in quiet]
        estate.until(lambda: published(estate, waiting))
        breakable_rabbitmq.kill()
        breakable_rabbitmq.lose_data()
        breakable_rabbitmq.start()
        breakable_rabbitmq.add_vhost(estate.broker.rpartition("/")[2])
        assert not waits_on(breakable_rabbitmq, estate)
        for worker in ("w1", "w2"):
            estate.kill(worker, signal.SIGCONT)
        done = estate.until(lambda: (d := estate.run("cluster", "republish", CLUSTER)).returncode == 0 and d, 60)
        assert "operations published again" in done.stdout
        assert {estate.settle(operation)["state"] for operation in waiting} == {"succeeded"}
        load.wait_for(40)
    nothing_is_lost(estate, load, SETTLE_SECONDS)


def published(estate, operations):
    """Whether the broker has confirmed all of them: none stands in the outbox any more."""
    store = open_store(estate.store)
    try:
        with store.reading() as transaction:
            return not transaction.outgoing([operation["id"] for operation in operations])
    finally:
        store.close()


def waits_on(broker, estate):
    """Whether any queue of the cluster has a message."""
    vhost = estate.broker.rpartition("/")[2]
    told = broker.ctl("list_queues", "-q", "-p", vhost, "name", "messages", "--no-table-headers")
    return [line for line in told.splitlines() if f"federation.{CLUSTER}.e" in line and line.split()[-1] != "0"]
