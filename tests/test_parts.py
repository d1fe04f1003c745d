"""The parts do what the other tests rely on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import amqp
import libvirt
import pytest
import sqlalchemy
from parts.broker_files import has_saved_queue
from parts.processes import REAPER, is_alive, launch_reaped
from parts.state import PartMissingError, free_ports, wait_until

COMMAND = [sys.executable, str(Path(__file__).resolve().parent / "parts")]


def connect(broker, number=0):
    login = {"userid": "federation", "password": broker.facts["password"], "virtual_host": "federation"}
    connection = amqp.Connection(f"127.0.0.1:{broker.ports[number]}", **login, connect_timeout=10)
    connection.connect()
    return connection


def publish_durably(connection, queue):
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
    channel.confirm_select()
    channel.basic_publish_confirm(amqp.Message("kept", delivery_mode=2), "", queue, confirm_timeout=30)


def holds_message(broker, number, queue, body):
    """Whether the next message of a queue is `body`; no, while the queue has no leader yet."""
    try:
        message = connect(broker, number).channel().basic_get(queue)
    except amqp.exceptions.InternalError:
        return False
    return message is not None and message.body == body


def test_a_killed_broker_comes_back_on_its_port_with_its_messages(breakable_rabbitmq):
    publish_durably(connect(breakable_rabbitmq), "kept")
    wait_until(lambda: has_saved_queue(breakable_rabbitmq.folder, 0, "kept"), 30, "the queue to be saved")
    breakable_rabbitmq.kill()
    assert not breakable_rabbitmq.is_ready(0)
    breakable_rabbitmq.start()
    wait_until(lambda: holds_message(breakable_rabbitmq, 0, "kept", "kept"), 60, "the message")


def test_the_cluster_keeps_a_quorum_queue_when_one_node_is_killed(rabbitmq_cluster):
    publish_durably(connect(rabbitmq_cluster, 0), "kept")
    rabbitmq_cluster.kill(0)
    # The other nodes elect a new leader of the queue first.
    wait_until(lambda: holds_message(rabbitmq_cluster, 1, "kept", "kept"), 60, "the message")


def test_a_frozen_node_is_one_of_the_cluster_again_when_it_goes_on(rabbitmq_cluster):
    rabbitmq_cluster.pause(0)
    wait_until(lambda: len(running_nodes(rabbitmq_cluster, 1)) == 2, 60, "the frozen node to be missed", step=1)
    rabbitmq_cluster.mend()
    assert len(running_nodes(rabbitmq_cluster, 0)) == 3
    publish_durably(connect(rabbitmq_cluster, 0), "after the freeze")
    assert holds_message(rabbitmq_cluster, 1, "after the freeze", "kept")


def running_nodes(broker, number):
    return json.loads(broker.ctl("cluster_status", "--formatter", "json", number=number))["running_nodes"]


def test_the_cluster_is_whole_again_for_the_next_test(rabbitmq_cluster):
    assert len(running_nodes(rabbitmq_cluster, 0)) == 3


def test_the_shared_broker_is_the_one_that_the_command_names(rabbitmq):
    done = subprocess.run([*COMMAND, "rabbitmq", "env"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("=", 1)[1].strip() == rabbitmq.url
    assert connect(rabbitmq).server_properties["product"] == "RabbitMQ"


def test_a_machine_outlives_its_libvirtd_and_obeys_its_power_button(breakable_libvirt_hosts, guest_image):
    host = breakable_libvirt_hosts.facts["hosts"][0]
    log = Path(host["console"]) / "machine.log"
    xml = f"""<domain type="qemu"><name>machine</name><memory unit="b">{guest_image["memory_bytes"]}</memory>
      <os><type>hvm</type><kernel>{guest_image["kernel"]}</kernel><initrd>{guest_image["initrd"]}</initrd>
      <cmdline>{guest_image["cmdline"]}</cmdline></os><features><acpi/></features>
      <devices><serial type="pty"><log file="{log}"/></serial></devices></domain>"""
    libvirt.open(host["uri"]).createXML(xml)
    wait_until(lambda: guest_image["ready_line"] in log.read_text(errors="replace"), 60, "the guest to boot")
    breakable_libvirt_hosts.kill(0)
    beats = log.read_text(errors="replace").count("alive")
    wait_until(lambda: log.read_text(errors="replace").count("alive") > beats, 20, "the guest to live on")
    breakable_libvirt_hosts.start_node(0)
    connection = libvirt.open(host["uri"])
    connection.lookupByName("machine").shutdown()
    wait_until(lambda: not connection.listAllDomains(), 60, "the machine to power off")
    assert "FEDERATION-GUEST powering off" in log.read_text(errors="replace")


def test_the_two_hosts_are_different_machines_to_libvirt(libvirt_hosts):
    connections = [libvirt.open(uri) for uri in libvirt_hosts.uris.values()]
    assert [connection.getHostname() for connection in connections] == ["host0", "host1"]
    assert len({connection.getCapabilities().split("<uuid>")[1][:36] for connection in connections}) == 2


def test_postgresql_answers(postgresql):
    url = postgresql.add_database("of_this_test")
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select 1").scalar() == 1
    engine.dispose()
    postgresql.drop_database("of_this_test")


def test_a_port_is_reserved_until_its_owner_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDERATION_PARTS_DIR", str(tmp_path))
    owner = tmp_path / "owner"
    owner.mkdir()
    first = free_ports(3, owner)
    assert not set(first) & set(free_ports(3, owner))
    owner.rmdir()
    free_ports(1, tmp_path)
    assert len(json.loads((tmp_path / "reserved_ports.json").read_text())) == 1


def test_waiting_in_vain_names_what_was_waited_for():
    started = time.monotonic()
    with pytest.raises(PartMissingError, match="a miracle"):
        wait_until(lambda: False, 0.2, "a miracle")
    assert time.monotonic() - started < 5


def test_a_missing_part_skips_on_a_laptop_and_fails_where_parts_are_required(pytester_folder):
    laptop, ci = (run_with_a_missing_part(pytester_folder, required) for required in ("", "1"))
    assert (laptop.returncode, ci.returncode) == (0, 1)
    assert "1 skipped" in laptop.stdout
    assert "needs root" in laptop.stdout
    assert "needs root" in ci.stdout


def test_a_skip_that_nobody_allowed_fails_where_parts_are_required(pytester_folder):
    (pytester_folder / "test_it.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no reason')\n")
    laptop, ci = (run_pytest(pytester_folder, required) for required in ("", "1"))
    assert (laptop.returncode, ci.returncode) == (0, 1)
    assert "unlisted skip: test_it.py::test_it: Skipped: no reason" in ci.stdout


@pytest.fixture
def pytester_folder(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["parts.fixtures"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    libvirt: x\n    rabbitmq: x\n    postgresql: x\n")
    return tmp_path


def run_with_a_missing_part(folder, required):
    (folder / "test_it.py").write_text(
        "import pytest\nfrom parts import fixtures\nfrom parts.state import PartMissingError\n"
        "def start():\n    raise PartMissingError('it needs root')\n"
        "@pytest.fixture\ndef part():\n    fixtures.bring_up(start)\n"
        "def test_it(part):\n    pass\n"
    )
    return run_pytest(folder, required)


def run_pytest(folder, required):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent), "CI": required}
    env |= {"FEDERATION_REQUIRE_PARTS": required, "FEDERATION_PARTS_DIR": str(folder / "parts")}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, check=False, timeout=120)


def test_what_a_server_leaves_behind_is_collected_by_its_reaper(tmp_path):
    told = tmp_path / "pids"
    script = 'sleep 60 & echo "$! $$" >"$1"'
    server = launch_reaped(["sh", "-c", script, "sh", str(told)], tmp_path / "log")
    wait_until(lambda: told.exists() and told.read_text().endswith("\n"), 10, "the server to start another")
    orphan, pid = map(int, told.read_text().split())
    assert server["pid"] == pid
    wait_until(lambda: not is_alive(server), 10, "the server to end")

    def parent_of_orphan() -> str:
        status = Path(f"/proc/{orphan}/status").read_text()
        return Path(f"/proc/{status.split('PPid:')[1].split()[0]}/cmdline").read_text()

    wait_until(lambda: str(REAPER) in parent_of_orphan(), 10, "the orphan to be adopted")
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), 10, "the orphan to be collected", step=0.01)
