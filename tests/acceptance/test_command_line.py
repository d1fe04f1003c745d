"""The command line as its user meets it, over a real broker."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from acceptance.conftest import make_estates
from acceptance.estate import CLUSTER, MIB

from federation.contract.operations import Lane, Ordering, on_lane
from federation.testing.faults import Action, Fault, FaultControl

CHECKSUM = "sha256:" + "0" * 64
BOOT = ["--image", "http://images/guest.qcow2", "--checksum", CHECKSUM]
FLAVOUR = ["--vcpus", "1", "--memory", "256MiB"]


@pytest.fixture(scope="module")
def lab(rabbitmq, tmp_path_factory):
    """One installation for all of this module."""
    made, make = make_estates(rabbitmq, tmp_path_factory)
    estate = make()
    estate.start_manager()
    done = estate.run("cluster", "create", CLUSTER, "--driver", "simulated", "--partitions", "8")
    assert done.returncode == 0, done.stderr
    assert f"federation worker --driver simulated --cluster {CLUSTER}" in done.stderr
    estate.start_worker("w1", pace=0.05)
    estate.until_admitted("w1")
    yield estate
    for one in made:
        one.end()


def create(lab, name, *options):
    done = lab.run("instance", "create", name, "--cluster", CLUSTER, *FLAVOUR, *BOOT, *options)
    assert done.returncode == 0, done.stderr
    return done


def state(lab, name):
    return lab.json("instance", "show", name)["state"]


def test_a_machine_lives_through_every_operation_of_the_command_line(lab):
    assert "succeeded" in create(lab, "life").stdout
    assert state(lab, "life") == "running"
    for words, expected in [
        (["pause", "life"], "paused"),
        (["unpause", "life"], "running"),
        (["reboot", "life", "--mode", "hard"], "running"),
        (["suspend", "life"], "suspended"),
        (["resume", "life"], "running"),
        (["stop", "life", "--mode", "graceful", "--timeout", "30"], "stopped"),
        (["resize", "life", "--vcpus", "2", "--memory", "512MiB"], "stopped"),
        (["start", "life"], "running"),
    ]:
        done = lab.run("instance", *words)
        assert done.returncode == 0, done.stderr
        assert state(lab, "life") == expected, words
    shown = lab.json("instance", "show", "life")
    assert (shown["vcpus"], shown["memory_bytes"]) == (2, 512 * MIB)
    live = lab.json("instance", "show", "life", "--live")
    assert (live["power_state"], live["vcpus"]) == ("running", 2)
    assert "login" in lab.run("instance", "console-log", "life").stdout
    names = [o["name"] for o in lab.json("operation", "list", "--instance", "life")]
    assert names[0] == "power_on"
    assert names[-1] == "create"
    assert lab.run("instance", "delete", "life").returncode == 0
    assert "life" not in [i["name"] for i in lab.json("instance", "list")]


def test_every_declared_change_of_an_instance_is_a_command(lab):
    helped = lab.run("instance", "--help").stdout
    for operation in on_lane(Lane.ORDERED):
        if operation.ordering is Ordering.INSTANCE:
            assert f"\n  {operation.verb} " in helped


@pytest.mark.parametrize(
    "words",
    [[], ["manager"], ["worker"], ["worker", "list"], ["cluster", "create"], ["instance", "create"], ["instance", "stop"],
     ["operation", "watch"], ["doctor"], ["demo"], ["contract", "show"], ["node", "list"]],
    ids=" ".join,
)  # fmt: skip
def test_every_command_helps(lab, words):
    done = lab.run(*words, "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert len(done.stdout.splitlines()) > 4


def test_json_is_json_everywhere(lab):
    create(lab, "json")
    for words in [
        ["cluster", "list"],
        ["cluster", "show", CLUSTER],
        ["node", "list"],
        ["worker", "list"],
        ["instance", "list"],
        ["instance", "show", "json"],
        ["instance", "console-log", "json"],
        ["operation", "list"],
        ["doctor"],
        ["contract", "show"],
    ]:
        assert lab.json(*words)
    paused = lab.json("instance", "pause", "json")
    assert (paused["name"], paused["state"]) == ("pause", "succeeded")
    assert lab.json("operation", "show", paused["id"])["id"] == paused["id"]
    assert lab.json("operation", "watch", paused["id"])["state"] == "succeeded"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["instance", "create", "x", "--cluster", "nowhere", *FLAVOUR, *BOOT], 3, ["not_found", "'nowhere'", "next: "]),
        (["instance", "create", "a/b", "--cluster", CLUSTER, *FLAVOUR, *BOOT], 3, ["invalid_request", "name"]),
        (["instance", "create", "x", "--cluster", CLUSTER, *FLAVOUR], 2, ["exactly one of --image, --template"]),
        (["instance", "create", "x", "--cluster", CLUSTER, *FLAVOUR, "--image", "http://x/y"], 2, ["--checksum"]),
        (["instance", "create", "x", "--cluster", CLUSTER, "--vcpus", "1", "--memory", "much", *BOOT], 2, ["'much'", "GiB"]),
        (["instance", "create", "x", "--cluster", CLUSTER, "--vcpus", "1", "--memory", "4TiB", *BOOT], 3, ["insufficient_resources"]),
        (["instance", "stop", "nobody"], 3, ["not_found", "nobody"]),
        (["instance", "resolve", "nobody"], 2, ["--retry, --accept, --abandon"]),
        (["operation", "show", "nothing"], 3, ["not_found", "nothing"]),
        (["cluster", "create", "A B", "--driver", "x"], 3, ["cluster name is 'A B'"]),
        (["cluster", "create", CLUSTER, "--driver", "x"], 3, ["already_exists", CLUSTER]),
        (["cluster", "remove", CLUSTER, "--yes"], 3, ["invalid_state", CLUSTER]),
        (["worker", "--driver", "simulated"], 2, ["--driver and --cluster", "federation worker list"]),
        (["worker", "--driver", "nothing", "--cluster", CLUSTER], 1, ["'nothing'", "simulated"]),
        (["worker", "drain", "nobody"], 3, ["not_found", "nobody"]),
        (["--config", "missing.conf", "cluster", "list"], 2, ["missing.conf", "not there"]),
        (["--timeout", "2", "--broker", "amqp://x:secret@127.0.0.1:1/", "cluster", "list"], 69, []),
        (["--timeout", "2", "--broker", "federation://x:secret@127.0.0.1:1/", "cluster", "list"], 69, ["127.0.0.1:1"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else str(value),
)  # fmt: skip
def test_bad_input_is_refused_with_what_and_what_next(lab, words, code, said):
    done = lab.run(*words)
    assert done.returncode == code, done.stderr
    for text in said:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr + done.stdout


def test_a_failed_operation_ends_with_status_one_and_the_next_move(lab):
    corrupt = ["--image", "corrupt://images/guest.qcow2", "--checksum", CHECKSUM]
    done = lab.run("instance", "create", "bad", "--cluster", CLUSTER, *FLAVOUR, *corrupt)
    assert done.returncode == 1
    assert "image_rejected" in done.stdout
    assert "next: Correct checksum" in done.stderr
    assert lab.run("instance", "delete", "bad").returncode == 0


def test_ctrl_c_leaves_the_operation_running_and_says_how_to_come_back(lab):
    create(lab, "slow")
    lab.run("instance", "stop", "slow")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job passes on that it is ignored
    process = subprocess.Popen(
        lab.command("instance", "create", "slower", "--cluster", CLUSTER, *FLAVOUR, "--image", "http://x/y", "--checksum", CHECKSUM),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=lab.environment(),
    )  # fmt: skip
    said = process.stderr.readline()  # the command has been told that it was accepted, and follows it
    assert said.startswith("create "), said
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.fail("the operation ended before Ctrl-C; make it slower")
    assert process.returncode == 130, errors
    operation = re.search(r"federation operation watch (\S+)", errors)
    assert operation, errors
    assert f"federation operation cancel {operation[1]}" in errors
    assert lab.json("operation", "watch", operation[1])["state"] == "succeeded"


def test_colours_are_for_terminals_only(lab):
    assert "\x1b[" not in lab.run("operation", "list").stdout
    master, slave = pty.openpty()
    environment = {key: value for key, value in lab.environment().items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    process = subprocess.Popen(lab.command("worker", "list"), stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while process.poll() is None or shown == b"":
        try:
            shown += os.read(master, 65536)
        except OSError:
            break
    process.wait(30)
    os.close(master)
    assert b"\x1b[" in shown


def test_an_operation_that_waits_is_cancelled_without_having_started(lab):
    create(lab, "busy")
    control = FaultControl(lab.state)
    fault = control.plant(Fault(action=Action.HANG, operation="suspend"))
    first = lab.ask("submit", name="suspend", instance="busy")
    second = lab.ask("submit", name="resume", instance="busy")
    done = lab.run("--output", "json", "operation", "cancel", second["id"], "--no-wait")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cancel_requested"]
    control.release(fault)
    assert lab.settle(first)["state"] == "succeeded"
    record = lab.settle(second)
    assert (record["state"], record["outcome"]["code"], record["attempt"]) == ("refused", "cancelled", 0)
    assert state(lab, "busy") == "suspended"


def test_an_operation_that_runs_is_cancelled_and_undone(lab):
    fault = FaultControl(lab.state).plant(Fault(action=Action.SLOW, operation="create", kind="define", seconds=20.0))
    made = lab.create("undone")
    lab.until(lambda: FaultControl(lab.state).firings(fault))
    done = lab.run("operation", "cancel", made["id"])
    assert done.returncode == 0, done.stderr
    record = lab.settle(made)
    assert (record["state"], record["outcome"]["code"]) == ("failed", "cancelled")
    assert lab.run("instance", "delete", "undone").returncode == 0


def test_the_doctor_is_content_with_a_whole_installation(lab):
    done = lab.run("doctor")
    assert done.returncode == 0, done.stdout
    for part in (
        "broker: RabbitMQ",
        "store: answers",
        "queues: 32 results queues",
        "manager: answers",
        f"driver of {CLUSTER}",
    ):
        assert part in done.stdout


def test_the_doctor_names_what_is_missing_and_how_to_bring_it(lab, make_estate):
    empty = make_estate()
    done = empty.run("--timeout", "3", "doctor")
    assert done.returncode == 1
    assert "FAIL manager" in done.stdout
    assert "next: start one: federation manager" in done.stdout
    lonely = lab.run("--timeout", "3", "--broker", "federation://guest:guest@127.0.0.1:1/", "doctor")
    assert lonely.returncode == 1
    assert "FAIL broker" in lonely.stdout


def test_a_worker_is_drained_from_afar(lab):
    lab.start_worker("w2")
    lab.until_admitted("w2")
    assert "draining" in lab.run("worker", "drain", "w2").stderr
    assert lab.processes["w2"].wait(60) == 0
    assert {w["id"]: w["state"] for w in lab.json("worker", "list", "--all")}["w2"] == "left"


def test_what_is_sent_at_once_takes_effect_in_its_order(lab):
    create(lab, "order")
    for words in (["stop"], ["start"], ["pause"], ["unpause"], ["suspend"], ["resume"], ["stop"]):
        assert lab.run("instance", words[0], "order", "--no-wait").returncode == 0
    last = lab.json("operation", "list", "--instance", "order", "--limit", "1")[0]
    assert lab.json("operation", "watch", last["id"])["state"] == "succeeded"
    assert {o["state"] for o in lab.json("operation", "list", "--instance", "order")} == {"succeeded"}
    report = lab.judge()
    assert report.clean, report.to_text()


def test_a_second_signal_ends_a_worker_at_once(make_estate):
    estate = make_estate()
    estate.start("w1", pace=5.0)
    estate.submit(
        "create",
        cluster=CLUSTER,
        arguments={
            "spec": {
                "name": "long",
                "flavour": {"vcpus": 1, "memory_bytes": 64 * MIB},
                "boot": {"kind": "image", "url": "http://x/y", "checksum": CHECKSUM, "format": "qcow2"},
            }
        },
    )
    estate.until(lambda: estate.ask("operations", state="running"))
    estate.kill("w1", signal.SIGTERM)
    time.sleep(0.5)
    assert estate.processes["w1"].poll() is None
    estate.kill("w1", signal.SIGTERM)
    assert estate.processes["w1"].wait(20) == 4
    assert json.loads(estate.run("--output", "json", "operation", "list").stdout)[0]["state"] == "running"
