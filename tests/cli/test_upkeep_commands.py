"""The commands of whoever looks after an installation, through REST and on the store itself."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import uuid

import pytest
from cli.conftest import MACHINE

from federation.store import open_store
from federation.store.migrate import HEAD


@pytest.fixture
def draining(admin):
    """A cluster whose next epoch waits for an operation that nobody will settle; taken back in the end."""
    name = f"waits-{uuid.uuid4().hex[:8]}"
    made = admin.json("instance", "create", name, "--cluster", "idle", *MACHINE, "--no-wait")
    yield "idle"
    admin.run("cluster", "repartition", "idle", "--take-back")
    admin.run("operation", "cancel", made["id"])


def test_one_command_gives_a_cluster_another_number_of_partitions_and_tells_how_far_it_is(admin):
    done = admin.ok("cluster", "repartition", "prod", "--partitions", "5")
    assert "one lease passes" in done.stderr
    facts = admin.json("cluster", "repartition", "prod", "--partitions", "5")
    assert (facts["partitions"], facts["phase"]) == (5, "steady")
    admin.ok("instance", "create", "in-the-new-epoch", "--cluster", "prod", *MACHINE)


def test_ctrl_c_leaves_the_change_going_on_and_says_how_to_come_back(admin, draining):
    environment = {**os.environ, "XDG_CONFIG_HOME": str(admin.home)}
    environment.pop("FEDERATION_BROKER", None)
    command = [sys.executable, "-m", "federation.cli", "cluster", "repartition", draining, "--partitions", "7"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job passes on that it is ignored
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as waiting:
        assert "draining: " in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 130, errors
    assert f"federation cluster repartition {draining} --take-back" in errors
    facts = admin.json("cluster", "repartition", draining, "--partitions", "7", "--no-wait")
    assert (facts["wanted_partitions"], facts["phase"]) == (7, "draining")
    other = admin.run("cluster", "repartition", draining, "--partitions", "8")
    assert other.exit_code != 0
    assert "on its way to 7 partitions" in other.stderr


def test_it_is_taken_back_by_itself_after_a_time_and_by_command_at_once(admin, draining):
    done = admin.run("cluster", "repartition", draining, "--partitions", "9", "--give-up-after", "0.5")
    assert done.exit_code == 1
    assert "taken back: " in done.stderr
    none = admin.run("cluster", "repartition", draining, "--take-back")
    assert "no change is under way" in none.stderr
    assert admin.run("cluster", "repartition", draining).exit_code == 2  # neither a number nor --take-back


def test_the_other_commands_of_upkeep_answer(admin):
    assert "operations published again" in admin.ok("cluster", "republish", "lab").stdout
    told = admin.run("-o", "json", "cluster", "compare", "lab")
    assert json.loads(told.stdout)["cluster"] == "lab"
    node = admin.json("node", "list", "--cluster", "lab")[0]["name"]
    assert "still reported" in admin.run("node", "forget", node, "--cluster", "lab").stderr
    records = admin.json("audit", "list", "--action", "republish")
    assert records[0]["actor"] == "token a-admin"
    assert records[0]["result"] == "accepted"


@pytest.fixture
def url(tmp_path):
    made = f"sqlite:///{tmp_path}/store.db"
    open_store(made).close()
    return made


def test_a_store_is_backed_up_restored_and_taken_back_to_an_older_release(person, tmp_path, url):
    file = tmp_path / "saved"
    assert "an empty store" in person.ok("backup", str(file), "--store", url).stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "is there already" in str(person.run("backup", str(file), "--store", url).exception)
    person.ok("backup", str(file), "--store", url, "--force")
    other = f"sqlite:///{tmp_path}/other.db"
    assert "restored what was so at" in person.ok("restore", str(file), "--store", other).stdout
    assert HEAD in person.ok("store", "show", "--store", other).stdout
    asked = person.run("store", "downgrade", "--store", other, "--to", "r0004", said="n\n")
    assert asked.exit_code == 1
    person.ok("store", "downgrade", "--store", other, "--to", "r0004", "--yes")
    shown = person.json("store", "show", "--store", other)
    assert [each["revision"] for each in shown if each["here"]] == ["r0004"]
