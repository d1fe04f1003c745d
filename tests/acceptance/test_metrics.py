"""What a real manager, real workers and a real RabbitMQ export while operations run, wait and are dropped."""

import re
import signal
import urllib.request

import pytest
import yaml
from acceptance.conftest import make_estates
from acceptance.estate import CLUSTER, spec
from observe.test_deploy import PROMETHEUS, RABBITMQ
from parts.state import free_ports
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.rabbitmq
PARTITIONS = 4


@pytest.fixture(scope="module")
def site(managed_broker, tmp_path_factory):
    """An estate on that broker, whose processes all export metrics."""
    broker, api_url, _ = managed_broker
    made, make = make_estates(broker, tmp_path_factory)
    estate = make(
        options={
            "FEDERATION_MANAGER_METRICS": "127.0.0.1:0",
            "FEDERATION_WORKER_METRICS": "127.0.0.1:0",
            "FEDERATION_MANAGEMENT_URL": api_url,
        }
    )
    estate.start("w1", "w2", pace=0.4, partitions=PARTITIONS)
    yield estate
    for one in made:
        one.end()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def address(estate, name):
    return re.findall(r"metrics on (\S+)", estate.log(name))[-1]


def scrape(estate, name):
    """By name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(get(address(estate, name)))
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((name, tuple(sorted(labels.items()))))


def third(site):
    """A worker that stays when the first two leave."""
    if "w3" not in site.processes:
        site.start_worker("w3")
    site.until_admitted("w3")


def test_a_manager_tells_what_waits_runs_and_was_finished_and_by_whom(site):
    instances = site.make(3)
    operations = [site.change("reboot", instance, mode="hard") for instance in instances for _ in range(6)]

    def under_way():
        told = scrape(site, "manager")
        waiting = value(told, "federation_cluster_waiting_operations", cluster=CLUSTER)
        running = value(told, "federation_cluster_running_operations", cluster=CLUSTER)
        backlog = value(told, "federation_cluster_backlog_seconds", cluster=CLUSTER)
        return waiting and running and backlog and told

    told = site.until(under_way)
    parts = {labels["partition"]: n for (name, pairs), n in told.items()
             if name == "federation_partition_operations" and (labels := dict(pairs))["state"] == "waiting"}  # fmt: skip
    assert sum(parts.values()) == value(told, "federation_cluster_waiting_operations", cluster=CLUSTER)
    assert value(told, "federation_cluster_slots", cluster=CLUSTER) >= 32
    for operation in operations:
        assert site.settle(operation)["state"] == "succeeded"
    told = scrape(site, "manager")
    done = {"cluster": CLUSTER, "operation": "reboot", "state": "succeeded", "code": "none"}
    assert value(told, "federation_operations_settled_total", **done) == len(operations)
    assert value(told, "federation_operation_seconds_count", operation="reboot") == len(operations)
    assert value(told, "federation_results_lag_seconds_count") > 0
    assert value(told, "federation_outbox_operations") == 0


def test_a_worker_tells_what_its_driver_did_and_what_was_left_of_its_leases(site):
    third(site)
    (instance,) = site.make(1, "told")
    paused = site.settle(site.change("pause", instance))
    assert paused["state"] == "succeeded"
    refused = site.settle(site.change("resume", instance))
    assert refused["state"] == "failed"
    told = site.until(
        lambda: value(t := scrape(site, paused["worker"]), "federation_worker_lease_margin_seconds_count") and t
    )
    place = {"driver": "simulated", "cluster": CLUSTER}
    assert value(told, "federation_driver_operations_total", **place, operation="pause", code="succeeded") == 1
    assert value(told, "federation_driver_operation_seconds_count", **place, operation="pause") == 1
    end = {**place, "operation": "resume", "code": refused["outcome"]["code"]}
    assert value(scrape(site, refused["worker"]), "federation_driver_operations_total", **end) == 1
    assert value(told, "federation_worker_guards_total", result="passed") > 0
    assert value(told, "federation_worker_consuming") == value(told, "federation_worker_deciding") == 1
    assert value(told, "federation_driver_bugs_total", driver="simulated") == 0


def test_the_active_worker_of_each_partition_is_told_and_follows_a_worker_that_leaves(site):
    def active():
        told = scrape(site, "manager")
        names = [dict(pairs) for name, pairs in told if name == "federation_partition_active_worker"]
        return {(each["cluster"], each["partition"]): each["worker"] for each in names}

    everywhere = {(CLUSTER, str(number)) for number in range(PARTITIONS)}
    site.until(lambda: set(active()) == everywhere, 60)
    third(site)
    site.kill("w1", signal.SIGTERM)
    site.kill("w2", signal.SIGTERM)
    site.until(lambda: active() == dict.fromkeys(everywhere, "w3"), 60)
    told = scrape(site, "manager")
    assert value(told, "federation_cluster_workers", cluster=CLUSTER, state="left") == 2


def test_rabbitmq_tells_the_rest_and_its_queues_become_clusters_and_partitions(
    site, managed_broker, prometheus, tmp_path
):
    third(site)
    site.settle(site.create("published"))
    scraped = managed_broker[2].removeprefix("http://")
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    for job in configuration["scrape_configs"]:
        targets = {
            "federation-manager": [address(site, "manager").split("/")[2]],
            "federation-worker": [address(site, "w3").split("/")[2]],
        }.get(job["job_name"], [scraped])
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets}]
    configuration["global"] = {"scrape_interval": "5s"}  # it is also how long the broker may take to answer
    configuration["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (port,) = free_ports(1, tmp_path)
    server = prometheus.launch(tmp_path / "prometheus.yml", tmp_path, port)

    def ask(query):
        told = get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(query)}")
        return yaml.safe_load(told)["data"]["result"]

    try:
        for name in sorted(RABBITMQ):
            query = f'count by (partition) ({name}{{cluster="{CLUSTER}"}})'
            site.until(lambda query=query: {each["metric"]["partition"] for each in ask(query)}, 90)
        up = site.until(lambda: (found := ask("up == 1")) and len(found) == 4 and found, 90)
        assert {each["metric"]["job"] for each in up} == {job["job_name"] for job in configuration["scrape_configs"]}
        assert site.until(lambda: ask(f'federation_cluster_backlog_seconds{{cluster="{CLUSTER}"}}'), 90)
    finally:
        server.terminate()
        server.wait(20)


def test_work_for_no_worker_is_an_endless_backlog_and_the_command_line_says_so(site):
    for name in ("w1", "w2", "w3"):
        if name in site.processes and site.processes[name].poll() is None:
            site.kill(name, signal.SIGTERM)
            assert site.processes[name].wait(60) == 0
    site.submit("create", cluster=CLUSTER, arguments={"spec": spec("nobody")}, idempotency_key="nobody")

    def endless():
        return value(scrape(site, "manager"), "federation_cluster_backlog_seconds", cluster=CLUSTER) == float("inf")

    site.until(endless)
    assert "no worker" in site.run("cluster", "list").stdout
    assert "no worker" in site.run("cluster", "show", CLUSTER).stdout


def test_a_port_that_is_taken_ends_the_process_with_the_reason(site):
    taken = address(site, "manager").split("/")[2]
    config = str(site.folder / "w1.toml")
    done = site.run(
        "worker", "--driver", "simulated", "--driver-config", config, "--cluster", CLUSTER, "--metrics", taken
    )
    assert done.returncode != 0
    assert "cannot be served" in done.stderr
    assert "metrics" in done.stderr
