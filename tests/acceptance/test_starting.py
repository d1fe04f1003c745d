"""Processes that cannot start say why, with a status and without a traceback; what starts late is waited for."""

import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from acceptance.conftest import make_estates
from acceptance.estate import CLUSTER

from federation.bus.connect import open_link
from federation.bus.link import Queue
from federation.bus.topology import command_queue, results_queue

NOBODY = "federation://me:hidden@127.0.0.1:1/"


@pytest.fixture(scope="module")
def lab(rabbitmq, tmp_path_factory):
    """One installation for all of this module."""
    made, make = make_estates(rabbitmq, tmp_path_factory)
    estate = make()
    estate.start("w1", partitions=4)
    yield estate
    for one in made:
        one.end()


def own_hypervisor(folder):
    """Settings of a simulated hypervisor that belongs to no cluster yet."""
    config = folder / "driver.toml"
    config.write_text(f'[driver]\nstate_directory = "{folder}"\n')
    return str(config)


def refused(done, status, *said):
    assert done.returncode == status, done.stderr
    for text in said:
        assert text in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr + done.stdout


def test_a_manager_makes_the_folder_of_its_default_store_at_its_first_start(make_estate):
    estate = make_estate()
    home = estate.folder / "home"
    home.mkdir()
    environment = {**estate.environment(), "HOME": str(home)}
    del environment["FEDERATION_MANAGER_STORE"]
    with (estate.folder / "first.log").open("wb") as log:
        manager = subprocess.Popen(estate.command("manager"), stdout=log, stderr=log, env=environment)
    estate.processes["first"] = manager
    estate.until(lambda: "is ready" in estate.log("first"), 40, manager)
    store = home / ".local/state/federation/manager.sqlite"
    assert store.exists()
    assert store.stat().st_mode & 0o077 == 0
    assert store.parent.stat().st_mode & 0o077 == 0
    manager.send_signal(signal.SIGTERM)
    assert manager.wait(30) == 0


@pytest.mark.parametrize(
    ("store", "status", "said"),
    [
        ("sqlite:////not/there/manager.sqlite", 1, "the folder of the store's file does not exist: /not/there"),
        ("postgresql+psycopg://me:hidden@127.0.0.1:1/x", 69, "cannot be used now"),
        ("mysql://me:hidden@localhost/x", 1, "cannot be of kind 'mysql'"),
        ("no url with hidden in it", 1, "expected sqlite:///"),
    ],
)
def test_a_manager_without_its_store_says_so(lab, store, status, said):
    done = lab.run("manager", "--store", store)
    refused(done, status, said)
    assert "check --broker" not in done.stderr


def test_a_manager_whose_store_is_of_a_newer_release_says_which_side_has_to_move(lab, tmp_path):
    path = tmp_path / "newer.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('r9999')")
    refused(lab.run("manager", "--store", f"sqlite:///{path}"), 1, "r9999", "upgrade this program")


@pytest.mark.slow
def test_without_a_broker_processes_say_so_and_may_be_interrupted_meanwhile(lab, tmp_path):
    manager = ["manager", "--store", f"sqlite:///{tmp_path / 'x.sqlite'}"]
    worker = ["worker", "--driver", "simulated", "--cluster", CLUSTER, "--driver-config", own_hypervisor(tmp_path)]

    def interrupted(words):
        started = time.monotonic()
        process = subprocess.Popen(
            lab.command("--broker", NOBODY, *words), stderr=subprocess.PIPE, env=lab.environment(), text=True
        )
        time.sleep(4)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        return process.returncode, time.monotonic() - started, errors

    with ThreadPoolExecutor() as pool:
        patient = [pool.submit(lab.run, "--broker", NOBODY, *words, timeout=90) for words in (manager, worker)]
        for words in (manager, worker):
            status, seconds, errors = interrupted(words)
            assert status != 0
            assert seconds < 20
            assert "Traceback" not in errors
        for one in patient:
            refused(one.result(), 69, "127.0.0.1:1", "check --broker")


@pytest.mark.slow
def test_a_queue_with_other_arguments_is_named_and_the_manager_ends(make_estate):
    for queue in (results_queue(3), command_queue(CLUSTER, 1, 2)):
        estate = make_estate()
        if queue.startswith("federation.results"):
            said = "PRECONDITION_FAILED"
        else:
            estate.start("w1", partitions=4)
            estate.kill("w1")
            estate.kill("manager", signal.SIGTERM)
            assert estate.processes["manager"].wait(30) == 0
            said = "the queues of cluster 'lab' could not be declared"
        link = open_link(estate.broker, "a stranger")
        link.start(20)
        link.delete_queue(queue)
        link.declare([Queue(queue, durable=True)])
        link.close(5)
        status = 1 if queue.startswith("federation.results") else 69  # a cluster's queues are `unavailable`
        refused(estate.run("manager", timeout=90), status, said, queue)


def test_a_second_worker_of_the_same_name_is_refused_and_the_first_goes_on(lab):
    options = ["--driver", "simulated", "--cluster", CLUSTER, "--driver-config", str(lab.folder / "w1.toml")]
    refused(lab.run("worker", *options, "--id", "w1", timeout=90), 1, "w1")
    (instance,) = lab.make(1, "goes-on")
    assert lab.settle(lab.change("pause", instance))["worker"] == "w1"


@pytest.mark.parametrize(
    ("words", "environment", "status", "said"),
    [
        (["--cluster", CLUSTER, "--id", "a b"], {}, 1, "'a b' cannot be the name of a worker"),
        (["--cluster", CLUSTER, "--id", "w" * 200], {}, 1, "at most 128"),
        (["--cluster", "../lab", "--id", "w9"], {}, 1, "'../lab' cannot be the name of a cluster"),
        (["--cluster", CLUSTER], {"FEDERATION_WORKER_DRAIN_TIMEOUT": "0"}, 2, "drain_timeout is 0"),
        (["--cluster", "nowhere", "--id", "w9"], {}, 78, "cluster 'nowhere' is not known"),
    ],
    ids=str,
)
def test_a_worker_that_is_told_nonsense_says_what(lab, tmp_path, words, environment, status, said):
    options = ["--driver", "simulated", "--driver-config", own_hypervisor(tmp_path)]
    done = subprocess.run(
        lab.command("worker", *options, *words), capture_output=True, text=True, timeout=90, check=False,
        env={**lab.environment(), **environment},
    )  # fmt: skip
    refused(done, status, said)


def test_a_worker_of_one_name_cannot_serve_two_clusters(lab, tmp_path):
    lab.ask("create_cluster", cluster="other", driver="simulated", partitions=1)
    options = ["--driver", "simulated", "--cluster", "other", "--driver-config", own_hypervisor(tmp_path)]
    refused(lab.run("worker", *options, "--id", "w1", timeout=90), 78, "worker 'w1'", "cluster 'lab'")
    assert {w["id"]: w["cluster"] for w in lab.ask("workers")} == {"w1": CLUSTER}
    lab.ask("remove_cluster", cluster="other")


@pytest.mark.slow
def test_a_worker_that_starts_before_its_manager_waits_for_it(make_estate):
    estate = make_estate()
    estate.start("w0", partitions=4)
    estate.kill("w0", signal.SIGTERM)
    assert estate.processes["w0"].wait(30) == 0
    estate.kill("manager", signal.SIGTERM)
    assert estate.processes["manager"].wait(30) == 0
    estate.start_worker("w1")
    estate.until(lambda: "admission fails" in estate.log("w1"), 60)
    estate.start_manager()
    estate.until_admitted("w1")
    assert estate.processes["w1"].poll() is None


def test_the_doctor_makes_no_store(lab, tmp_path):
    environment = {**lab.environment(), "FEDERATION_MANAGER_STORE": f"sqlite:///{tmp_path / 'none.sqlite'}"}
    done = subprocess.run(
        lab.command("doctor"), capture_output=True, text=True, timeout=90, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout
    assert "there is no SQLite store on this machine" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_command_that_waits_outlives_a_manager_that_restarts(make_estate):
    estate = make_estate()
    estate.start("w1", pace=1.5, partitions=4)
    (instance,) = estate.make(1)
    with (estate.folder / "wait.log").open("wb") as log:
        waiting = subprocess.Popen(
            estate.command("--timeout", "2", "instance", "suspend", instance),
            stdout=log,
            stderr=log,
            env=estate.environment(),
        )
    estate.processes["wait"] = waiting
    estate.until(lambda: estate.ask("operations", state="running"))
    estate.kill("manager")
    time.sleep(3)
    estate.start_manager()
    assert waiting.wait(90) == 0, estate.log("wait")
    assert "succeeded" in estate.log("wait")


def test_user_data_and_passwords_in_urls_are_shown_to_nobody(lab, tmp_path):
    user_data = tmp_path / "user-data"
    user_data.write_text("#cloud-config\npassword: swordfish\n")
    done = lab.run(
        "--output", "json", "instance", "create", "secret", "--cluster", CLUSTER, "--vcpus", "1", "--memory", "64MiB",
        "--image", "http://me:hidden@images/x.qcow2", "--checksum", "sha256:" + "0" * 64, "--user-data", str(user_data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    for words in (
        ["operation", "list"],
        ["instance", "list"],
        ["instance", "show", "secret"],
        ["instance", "pause", "secret"],
    ):
        said += lab.run("--output", "json", *words).stdout
    (made,) = [o for o in lab.ask("operations") if o["name"] == "create" and o["arguments"]["spec"]["name"] == "secret"]
    said += lab.run("--output", "json", "operation", "show", made["id"]).stdout
    logs = "".join(lab.log(name) for name in lab.processes)
    for secret in ("swordfish", "hidden"):
        assert secret not in said
        assert secret not in logs
    assert made["state"] == "succeeded"
