"""Lost hosts, connections, brokers and servers, on a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import oslo_messaging
import pytest

PROGRAM = Path(__file__).with_name("ordered_server.py")


class Echo:
    def echo(self, ctxt, value):
        return value


class Counting:
    """Remembers what it was told, and may be made to wait."""

    def __init__(self):
        self.seen = []
        self.gate = threading.Event()
        self.gate.set()

    def count(self, ctxt, number):
        self.seen.append(number)
        assert self.gate.wait(60)
        return number


def without_repeats(numbers):
    return [number for index, number in enumerate(numbers) if index == 0 or numbers[index - 1] != number]


def dead_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_dead_first_host_is_passed_over(oslo_rabbitmq_url, open_bus):
    scheme, _, rest = oslo_rabbitmq_url.partition("://")
    login, _, host = rest.rpartition("@")
    bus = open_bus(f"{scheme}://{login}@127.0.0.1:{dead_port()},{login}@{host}")
    transport = bus.transport()
    bus.serve(transport, "server", Echo())
    assert bus.client(transport).call({}, "echo", value=1) == 1


@pytest.mark.parametrize("retry", [0, 2])
def test_without_any_host_a_cast_gives_up_after_its_retries(open_bus, retry):
    bus = open_bus(f"federation://user:secret@127.0.0.1:{dead_port()},127.0.0.1:{dead_port()}/")
    transport = bus.transport(connect_timeout=0.5)
    start = time.monotonic()
    with pytest.raises(oslo_messaging.MessageDeliveryFailure) as caught:
        bus.client(transport, retry=retry).cast({}, "echo", value=1)
    assert time.monotonic() - start < 15
    assert "secret" not in str(caught.value)


def test_without_any_host_a_call_gives_up_at_its_timeout(open_bus):
    bus = open_bus(f"federation://user:secret@127.0.0.1:{dead_port()}/")
    transport = bus.transport(connect_timeout=0.5)
    start = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        bus.client(transport, timeout=3).call({}, "echo", value=1)
    assert 2 < time.monotonic() - start < 10


def test_without_any_host_a_server_says_so_after_its_patience(open_bus):
    bus = open_bus(f"federation://user:secret@127.0.0.1:{dead_port()}/")
    transport = bus.transport(connect_timeout=0.5, connect_timeout_total=1)
    with pytest.raises(oslo_messaging.MessagingException, match=r"127\.0\.0\.1") as caught:
        bus.serve(transport, "server", Echo())
    assert "secret" not in str(caught.value)


def test_a_full_queue_refuses_and_a_retried_cast_arrives_when_there_is_room(bus):
    transport = bus.transport(max_queue_length=3)
    counting = Counting()
    server = bus.serve(transport, "server", counting)
    server.stop()
    server.wait()
    cast_once = bus.client(transport, retry=0).cast
    accepted = 0
    refusal = None
    while refusal is None and accepted < 200:
        try:
            cast_once({}, "count", number=accepted)
            accepted += 1
        except oslo_messaging.MessageDeliveryFailure as error:
            refusal = error
    assert "full" in str(refusal)
    assert accepted >= 3
    patient = threading.Thread(target=lambda: bus.client(transport).cast({}, "count", number=1000))
    patient.start()
    bus.serve(transport, "server again", counting)
    patient.join(30)
    bus.eventually(lambda: sorted(counting.seen) == [*range(accepted), 1000])


def test_a_call_in_flight_survives_the_loss_of_both_connections(bus):
    client_transport, server_transport = bus.transport(reconnect_max=1), bus.transport(reconnect_max=1)
    counting = Counting()
    counting.gate.clear()
    bus.serve(server_transport, "server", counting)
    result = []
    thread = threading.Thread(
        target=lambda: result.append(bus.client(client_transport, timeout=40).call({}, "count", number=7))
    )
    thread.start()
    bus.eventually(lambda: counting.seen == [7])
    client_transport._driver._here().sending._link.break_connection()
    server_transport._driver._here()._listening._link.break_connection()
    counting.gate.set()
    thread.join(40)
    assert result == [7]
    assert counting.seen == [7]


def test_a_fork_makes_its_own_connections_and_leaves_its_parents_alone(oslo_rabbitmq_url, open_bus):
    bus = open_bus(oslo_rabbitmq_url)
    transport = bus.transport()
    bus.serve(bus.transport(), "server", Echo())
    client = bus.client(transport)
    assert client.call({}, "echo", value="before") == "before"
    child = os.fork()
    if not child:
        try:
            os._exit(0 if client.call({}, "echo", value="child") == "child" else 1)
        finally:
            os._exit(2)
    for number in range(20):
        assert client.call({}, "echo", value=number) == number
    assert os.waitpid(child, 0)[1] == 0
    assert client.call({}, "echo", value="after") == "after"


def test_tls_with_the_right_authority_works_and_with_another_is_refused(rabbitmq, open_bus):
    if rabbitmq.external_url:
        pytest.skip("the environment's broker does not tell its TLS port")
    status = rabbitmq.status()
    certificates = status["certificates"]
    url = status["tls_url"].replace("amqps://", "federation://").replace("127.0.0.1", "localhost")
    bus = open_bus(url)
    transport = bus.transport(
        ssl=1,
        ssl_ca_file=certificates["ca_pem"],
        ssl_cert_file=certificates["client_pem"],
        ssl_key_file=certificates["client_key"],
    )
    bus.serve(transport, "server", Echo())
    assert bus.client(transport).call({}, "echo", value="x" * 500_000) == "x" * 500_000
    stranger = bus.transport(ssl=1, connect_timeout_total=2)
    with pytest.raises(oslo_messaging.MessagingException, match="certificate"):
        bus.serve(stranger, "stranger", Echo())


def _start_server(url, topic, name, log):
    return subprocess.Popen([sys.executable, PROGRAM, url, topic, name, log])


def _ends(server):
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(30)
        return False
    return True


def _read(log):
    return [json.loads(line) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []


def test_a_server_killed_in_the_middle_of_an_ordered_cast_leaves_it_to_another_in_order(
    oslo_rabbitmq_url, open_bus, tmp_path
):
    bus = open_bus(oslo_rabbitmq_url)
    url = f"{oslo_rabbitmq_url}?partitions=2&queue_expiry=600"
    log = str(tmp_path / "log")
    servers = {name: _start_server(url, bus.topic, name, log) for name in ("one", "two")}
    try:
        bus.eventually(lambda: {line["server"] for line in _read(log) if line["what"] == "up"} == {"one", "two"}, 60)
        cast = bus.client(bus.transport(partitions=2)).cast
        for number in range(40):
            for key in "abcd":
                cast({"ordering_key": key}, "step", number=number)
        bus.eventually(lambda: sum(line["what"] == "begin" for line in _read(log)) > 20)
        victim = next(line["server"] for line in reversed(_read(log)) if line["what"] == "begin")
        os.kill(servers[victim].pid, signal.SIGKILL)
        bus.eventually(lambda: len({(x["key"], x["number"]) for x in _read(log) if x["what"] == "end"}) == 160, 60)
    finally:
        for server in servers.values():
            server.terminate()
        ended = [_ends(server) for server in servers.values()]
    assert all(ended), "a server did not end within 30 s of SIGTERM"
    lines = _read(log)
    for key in "abcd":
        begun = [line["number"] for line in lines if line["what"] == "begin" and line["key"] == key]
        assert without_repeats(begun) == list(range(40))
    assert {line["server"] for line in lines if line["what"] == "begin"} == {"one", "two"}
    unfinished = [
        (line["key"], line["number"])
        for line in lines
        if line["what"] == "begin"
        and line["server"] == victim
        and not any(
            x["what"] == "end" and x["server"] == victim and x["key"] == line["key"] and x["number"] == line["number"]
            for x in lines
        )
    ]
    assert unfinished, "the kill hit nothing in the middle: the test proves nothing"


class Load:
    """Ordered casts, one after another, until stopped; says which the broker confirmed."""

    def __init__(self, bus, transport):
        self.confirmed = []
        self.unknown = []
        self._cast = bus.client(transport).cast
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._stop.wait(0.005):
            try:
                self._cast({"ordering_key": "k"}, "count", number=number)
                self.confirmed.append(number)
            except oslo_messaging.MessageDeliveryFailure:
                self.unknown.append(number)
            number += 1

    def stop(self):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.slow
def test_a_restarted_broker_loses_and_reorders_nothing_that_it_confirmed(breakable_rabbitmq, open_bus):
    bus = open_bus(breakable_rabbitmq.federation_url)
    counting = Counting()
    bus.serve(bus.transport(partitions=1, reconnect_max=1), "server", counting)
    load = Load(bus, bus.transport(partitions=1, reconnect_max=1))
    bus.eventually(lambda: len(load.confirmed) > 50)
    breakable_rabbitmq.restart()
    until = len(load.confirmed) + 50
    bus.eventually(lambda: len(load.confirmed) > until, 60)
    load.stop()
    bus.eventually(lambda: set(load.confirmed) <= set(counting.seen))
    confirmed = set(load.confirmed)
    assert without_repeats([number for number in counting.seen if number in confirmed]) == load.confirmed
    assert len(load.unknown) < 10


@pytest.mark.slow
def test_a_server_stops_soon_though_its_broker_has_gone(breakable_rabbitmq, open_bus):
    bus = open_bus(breakable_rabbitmq.federation_url)
    transport = bus.transport(partitions=2, reconnect_max=1)
    server = bus.serve(transport, "server", Counting())
    breakable_rabbitmq.kill()
    bus.eventually(lambda: not transport._driver._here()._listening._link.connected)
    start = time.monotonic()
    server.stop()
    server.wait()
    transport.cleanup()
    assert time.monotonic() - start < 15


@pytest.mark.slow
def test_calls_go_on_through_the_loss_of_each_node_of_a_cluster_in_turn(rabbitmq_cluster, open_bus):
    """The scenario of oslo.messaging's own RabbitMQFailoverTests, with quorum queues."""
    bus = open_bus(rabbitmq_cluster.federation_url)

    class Killer:
        def kill(self, ctxt, node):
            rabbitmq_cluster.kill(node)
            return "callback done"

        def just_process(self, ctxt):
            return "callback done"

    bus.serve(bus.transport(reconnect_max=1, heartbeat=2), "server", Killer())
    transport = bus.transport(reconnect_max=1, heartbeat=2)
    client = bus.client(transport, timeout=60)
    assert client.call({}, "just_process") == "callback done"
    for node in range(3):
        assert client.call({}, "kill", node=node) == "callback done"
        assert client.call({}, "just_process") == "callback done"
        rabbitmq_cluster.start_node(node)
        assert client.call({}, "just_process") == "callback done"


@pytest.mark.slow
def test_a_frozen_node_is_noticed_by_its_missing_heartbeats(rabbitmq_cluster, open_bus):
    bus = open_bus(rabbitmq_cluster.federation_url)
    transport = bus.transport(reconnect_max=1, heartbeat=2, connect_timeout=2)
    bus.serve(transport, "server", Echo())
    client = bus.client(transport, timeout=90, at_least_once=True)
    assert client.call({}, "echo", value=1) == 1
    rabbitmq_cluster.pause(0)
    try:
        start = time.monotonic()
        assert client.call({}, "echo", value=2) == 2
        assert time.monotonic() - start < 60
    finally:
        rabbitmq_cluster.resume(0)
