"""A node's operations from the command line to the hypervisor and back, on RabbitMQ."""

import signal

import pytest
from acceptance.estate import CLUSTER

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow]


def node_record(estate, name):
    return next(node for node in estate.ask("nodes", cluster=CLUSTER) if node["name"] == name)


def parked(estate, name):
    return node_record(estate, name)["parked_by"] is not None


def test_a_node_is_taken_out_of_service_and_back_by_the_command_line(estate):
    estate.start("w1", partitions=4)
    name = estate.ask("nodes", cluster=CLUSTER)[0]["name"]
    on_node = (name, "--cluster", CLUSTER)
    done = estate.json("node", "maintenance", *on_node, "--enabled")
    assert (done["state"], done["key"]) == ("succeeded", f"node:{CLUSTER}/{name}")
    assert node_record(estate, name)["facts"]["maintenance"] is True
    assert "maintenance" in estate.run("node", "list").stdout
    assert estate.json("node", "maintenance", *on_node, "--no-enabled")["sequence"] == 2
    listed = estate.json("operation", "list", "--node", name, "--cluster", CLUSTER)
    assert [operation["sequence"] for operation in listed] == [2, 1]
    assert f"node {name}" in estate.run("operation", "list").stdout
    refused = estate.run("node", "maintenance", "nowhere", "--cluster", CLUSTER, "--enabled")
    assert refused.returncode == 3
    assert f"known are: {name}" in refused.stderr
    report = estate.judge()
    assert report.clean, report.findings[:3]


def test_a_node_whose_operation_never_ends_is_parked_and_resolved_by_the_command_line(make_estate):
    """Every worker that takes it up dies of it, until it is poison."""
    estate = make_estate(lease=0.5, margin=0.1)
    estate.start("w0", partitions=1)
    name = estate.ask("nodes", cluster=CLUSTER)[0]["name"]
    estate.kill("w0", signal.SIGTERM)
    arguments = {"node": name, "enabled": True}
    operation = estate.ask("submit", name="set_node_maintenance", cluster=CLUSTER, arguments=arguments)

    def taken_up(attempt):
        record = estate.ask("operation", operation=operation["id"])
        return record["attempt"] >= attempt or record["state"] == "unknown"

    for number in range(1, 7):
        estate.start_worker(f"w{number}", pace=1000.0)
        estate.until(lambda least=number: taken_up(least), 60)
        if estate.ask("operation", operation=operation["id"])["state"] == "unknown":
            break
        estate.kill(f"w{number}")
    assert estate.ask("operation", operation=operation["id"])["outcome"]["code"] == "poison"
    assert parked(estate, name)
    assert "parked" in estate.run("node", "list").stdout
    estate.until(lambda: estate.run("node", "resolve", name, "--cluster", CLUSTER, "--abandon").returncode == 0, 30)
    assert not parked(estate, name)
