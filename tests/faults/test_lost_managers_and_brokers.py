"""A manager, a broker or a database connection that dies loses nothing of what was accepted (claim C4)."""

import random
import signal

import pytest
from acceptance.conftest import make_estates
from faults.load import Load, nothing_is_lost

SETTLE_SECONDS = 180


@pytest.mark.timeout(400)
def test_a_manager_that_is_killed_under_load_loses_nothing(make_estate):
    estate = make_estate(options={"FEDERATION_MANAGER_GRANTS": "50"})
    estate.start("w1", "w2", pace=0.02, partitions=8)
    with Load(estate, estate.make(10)) as load:
        for _ in range(3):
            load.wait_for(40)
            estate.kill("manager")
            estate.start_manager()
        load.wait_for(20)
    nothing_is_lost(estate, load, SETTLE_SECONDS)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_broker_that_restarts_or_is_killed_under_load_loses_nothing(make_breakable_estate, breakable_rabbitmq, how):
    estate = make_breakable_estate(options={"FEDERATION_MANAGER_GRANTS": "50"})
    estate.start("w1", "w2", pace=0.02, partitions=8)
    with Load(estate, estate.make(10)) as load:
        load.wait_for(40)
        if how == "restart":
            breakable_rabbitmq.restart()
        else:
            breakable_rabbitmq.kill()
            breakable_rabbitmq.start()
        load.wait_for(40)
    nothing_is_lost(estate, load, SETTLE_SECONDS)


@pytest.mark.timeout(400)
def test_of_two_managers_on_postgresql_one_is_killed_under_load_and_the_other_goes_on(make_estate, postgresql):
    name = f"managers_{random.getrandbits(32):08x}"
    estate = make_estate(store=postgresql.add_database(name), options={"FEDERATION_MANAGER_GRANTS": "50"})
    try:
        estate.start("w1", "w2", pace=0.02, partitions=32)
        estate.start_manager("second")
        estate.until(lambda: "claimed shards=16" in estate.log("second"), 40)
        with Load(estate, estate.make(12)) as load:
            load.wait_for(60)
            estate.kill("manager")
            load.wait_for(60)
        nothing_is_lost(estate, load, SETTLE_SECONDS)
    finally:
        estate.end()
        postgresql.drop_database(name)


@pytest.mark.timeout(400)
def test_a_worker_that_slept_through_its_lease_changes_nothing_when_it_wakes(estate):
    estate.broker += "&heartbeat=3" if "?" in estate.broker else "?heartbeat=3"
    estate.start("w1", "w2", pace=0.5)
    (instance,) = estate.make(1)
    operation = estate.change("suspend", instance)
    record = estate.until(lambda: (r := estate.ask("operation", operation=operation["id"]))["state"] == "running" and r)
    estate.kill(record["worker"], signal.SIGSTOP)
    # The broker gives the message to the other worker once it misses the sleeper's heartbeats.
    other = estate.until(lambda: (r := estate.ask("operation", operation=operation["id"]))["attempt"] >= 2 and r, 120)
    assert other["worker"] != record["worker"]
    estate.kill(record["worker"], signal.SIGCONT)
    assert estate.settle(operation)["state"] == "succeeded"
    report = estate.judge()
    assert report.clean, report.to_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_of_a_three_node_cluster_stops_and_returns_under_load(rabbitmq_cluster, tmp_path_factory):

    made, make = make_estates(rabbitmq_cluster, tmp_path_factory)
    estate = make(options={"FEDERATION_MANAGER_GRANTS": "50"})
    try:
        estate.start("w1", "w2", pace=0.02, partitions=8)
        with Load(estate, estate.make(10)) as load:
            for node in (1, 0):
                load.wait_for(40)
                rabbitmq_cluster.kill(node)
                load.wait_for(40)
                rabbitmq_cluster.start_node(node)
                rabbitmq_cluster.wait_ready(node)
            load.wait_for(40)
        nothing_is_lost(estate, load, SETTLE_SECONDS)
    finally:
        for one in made:
            one.end()
