"""RabbitMQ for tests: one node (`rabbitmq`) or a cluster of three (`rabbitmq3`), on loopback, with TLS.

With FEDERATION_TEST_BROKER set to an AMQP URL that broker is used as it is, and cannot be stopped or killed.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from parts.broker_files import USER, VHOST, broker_environment, prepare_broker
from parts.broker_program import BrokerProgram, find_broker_program
from parts.processes import end, is_alive, kill, launch, run, send
from parts.state import PartMissingError, accepts, instance_folder, locked, read_facts, remove_folder, wait_until
from parts.state import write_facts as remember

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOT_SECONDS = 120
# AMQP 0-9-1's protocol header, and the type byte of the method frame that a ready server answers with.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


class RabbitMQ:
    """A broker of one or more nodes that outlives this process. Nodes are numbered from 0."""

    def __init__(self, part: str = "rabbitmq", instance: str | None = None) -> None:
        """Take the broker of the current instance, or of the one named, running or not."""
        self.part = part
        self.instance = instance
        self.size = 3 if part == "rabbitmq3" else 1
        suite = os.environ.get("FEDERATION_BROKER_SUITE")
        self.folder = instance_folder(f"{part}-{suite}" if suite else part, instance)
        self._program: BrokerProgram | None = None

    @property
    def external_url(self) -> str | None:
        """The broker that the environment gives instead of ours; it counts as a single node."""
        ours = self.part != "rabbitmq" or self.instance is not None
        return None if ours else os.environ.get("FEDERATION_TEST_BROKER")

    @property
    def program(self) -> BrokerProgram:
        """RabbitMQ's programs, found (and at first installed) on first use."""
        if self._program is None:
            self._program = find_broker_program()
        return self._program

    # What it is

    @property
    def facts(self) -> dict[str, Any]:
        """Ports, password, processes and paths, as written down by the last command."""
        return read_facts(self.folder)

    @property
    def federation_url(self) -> str:
        """The URL of all nodes for the oslo.messaging transport driver."""
        return self.url_of("federation", self.ports)

    @property
    def ports(self) -> list[int]:
        """The AMQP port of each node."""
        return [node["port"] for node in self.facts["nodes"]]

    @property
    def url(self) -> str:
        """The AMQP URL of the first node."""
        return self.external_url or self.url_of("amqp", self.ports[:1])

    def url_of(self, scheme: str, ports: Sequence[int]) -> str:
        """A URL that names the given ports in order, as oslo.messaging writes several hosts."""
        password = self.facts["password"]
        hosts = ",".join(f"{USER}:{password}@127.0.0.1:{port}" for port in ports)
        return f"{scheme}://{hosts}/{VHOST}"

    def status(self) -> dict[str, Any]:
        """All that a caller needs to connect, and which nodes run."""
        if self.external_url:
            return {"part": self.part, "url": self.external_url, "external": True, "running": True}
        if not self.facts:
            return {"part": self.part, "running": False}
        nodes = self.facts["nodes"]
        return {
            "part": self.part,
            "running": all(self.is_ready(number) for number in range(self.size)),
            "version": self.facts["version"],
            "url": self.url,
            "federation_url": self.federation_url,
            "tls_url": self.url_of("amqps", [node["tls_port"] for node in nodes[:1]]),
            "certificates": self.facts["certificates"],
            "nodes": [{**node, "alive": is_alive(node["process"])} for node in nodes],
            "logs": str(self.folder / "log"),
        }

    def env(self) -> dict[str, str]:
        """Shell variables that name the broker."""
        name = "FEDERATION_TEST_BROKER" if self.size == 1 else "FEDERATION_TEST_CLUSTER"
        return {name: self.url if self.size == 1 else self.url_of("federation", self.ports)}

    def is_ready(self, number: int) -> bool:
        """Whether a node answers an AMQP handshake, which it does only at the end of its boot."""
        node = self.facts["nodes"][number]
        if not is_alive(node["process"]):
            return False
        try:
            with socket.create_connection(("127.0.0.1", node["port"]), timeout=5) as probe:
                probe.sendall(PROTOCOL_HEADER)
                return probe.recv(1) == METHOD_FRAME
        except OSError:
            return False

    # Commands

    def install(self) -> None:
        """Find RabbitMQ's programs, or make the private root that holds them."""
        if not self.external_url:
            self._program = find_broker_program()

    def start(self) -> None:
        """Start what does not run yet and wait until every node takes connections."""
        if self.external_url:
            return
        with locked(self.folder / "lock"):
            if not self.facts:
                prepare_broker(self.folder, self.size, self.program)
            self._start_epmd()
            for number in range(self.size):
                self._launch(number)
        self.wait_ready()

    def start_node(self, number: int) -> None:
        """Start one node and wait for it."""
        self._refuse_external()
        with locked(self.folder / "lock"):
            self._start_epmd()
            self._launch(number)
        self.wait_ready(number)

    def wait_ready(self, *numbers: int) -> None:
        """Wait until the given nodes (all by default) take connections."""
        for number in numbers or range(self.size):
            ready = functools.partial(self._ready_or_dead, number)
            wait_until(ready, BOOT_SECONDS, f"RabbitMQ node {number}, see {self.folder / 'log'}")

    def _ready_or_dead(self, number: int) -> bool:
        if not is_alive(self.facts["nodes"][number]["process"]):
            raise PartMissingError(f"RabbitMQ node {number} ended while booting, see {self.folder / 'log'}")
        return self.is_ready(number)

    def stop(self) -> None:
        """Stop every node gracefully, then the port mapper."""
        if self.external_url or not self.facts:
            return
        for number in range(self.size):
            self.stop_node(number)
        end(self.facts.get("epmd"))

    def remove(self) -> None:
        """Stop and forget the broker with all its queues."""
        self.stop()
        remove_folder(self.folder)

    def stop_node(self, number: int) -> None:
        """Stop one node gracefully (the Erlang machine takes SIGTERM as `init:stop`)."""
        self._refuse_external()
        end(self.facts["nodes"][number]["process"])

    def restart(self, number: int | None = None) -> None:
        """Stop gracefully and start one node, or all of them one after another."""
        for each in range(self.size) if number is None else [number]:
            self.stop_node(each)
            self.start_node(each)

    def kill(self, number: int = 0) -> None:
        """End one node by SIGKILL: nothing is flushed, nobody is told."""
        self._refuse_external()
        kill(self.facts["nodes"][number]["process"])

    def lose_data(self, number: int = 0) -> None:
        """Remove all that a stopped or killed node keeps: queues, messages, virtual hosts, users that were added."""
        self._refuse_external()
        if is_alive(self.facts["nodes"][number]["process"]):
            raise PartMissingError(f"RabbitMQ node {number} still runs: kill it first")
        remove_folder(self.folder / f"node{number}")

    def pause(self, number: int = 0) -> None:
        """Freeze one node by SIGSTOP: its peers miss its ticks (net_ticktime 8 s), its clients see silence."""
        self._refuse_external()
        send(self.facts["nodes"][number]["process"], signal.SIGSTOP)

    def resume(self, number: int = 0) -> None:
        """Let a frozen node go on."""
        self._refuse_external()
        send(self.facts["nodes"][number]["process"], signal.SIGCONT)

    def mend(self) -> None:
        """Bring back whatever was killed, stopped or frozen, and wait until all nodes are one cluster."""
        for number in range(self.size):
            self.resume(number)
        self.start()
        if self.size > 1:
            wait_until(self._is_one_cluster, BOOT_SECONDS, "the nodes to be one cluster again", step=1)

    def _is_one_cluster(self) -> bool:
        try:
            status = json.loads(self.ctl("cluster_status", "--formatter", "json"))
        except PartMissingError:
            return False  # the node restarts itself to heal a partition
        return len(status["running_nodes"]) == self.size and not status["partitions"]

    def ctl(self, *arguments: str, number: int = 0, program: str = "rabbitmqctl") -> str:
        """Run rabbitmqctl (or another of RabbitMQ's tools) against one node and return what it printed."""
        self._refuse_external()
        name = self.facts["nodes"][number]["name"]
        command = self.program.command(self.folder, program, "-n", name, *arguments)
        return run(command, env=self._environment(number), seconds=120)

    def add_vhost(self, name: str) -> str:
        """Make a virtual host that the tests' user may use, and return its URL."""
        # What `add_vhost` and `set_permissions` do, in one start of Erlang instead of two.
        told = ", ".join(f'<<"{each}">>' for each in (USER, name, ".*", ".*", ".*", "tests"))
        self.ctl(
            "eval",
            f'ok = rabbit_vhost:add(<<"{name}">>, <<"tests">>), ok = rabbit_auth_backend_internal:set_permissions({told}).',
        )
        return self.url.rpartition("/")[0] + f"/{name}"

    def add_user(self, name: str, password: str, *patterns: str, vhost: str = VHOST) -> None:
        """Make a user with the patterns of what it may configure, write and read."""
        self.ctl("add_user", name, password)
        self.ctl("set_permissions", "-p", vhost, name, *patterns)

    # How it is made

    def _refuse_external(self) -> None:
        if self.external_url:
            raise PartMissingError("FEDERATION_TEST_BROKER names a broker that is not ours to control: unset it")
        if not self.facts:
            raise PartMissingError(f"{self.part} was never started")

    def _environment(self, number: int) -> dict[str, str]:
        return broker_environment(self.facts, number, self.program.seen(self.folder))

    def _start_epmd(self) -> None:
        facts = self.facts
        if is_alive(facts["epmd"]):
            return
        port = str(facts["epmd_port"])
        command = self.program.command(self.folder, "epmd", "-address", "127.0.0.1", "-port", port)
        facts["epmd"] = launch(command, self.folder / "epmd.log", self._environment(0))
        remember(self.folder, facts)
        wait_until(lambda: self._epmd_answers(facts), 20, "Erlang's port mapper")

    def _epmd_answers(self, facts: dict[str, Any]) -> bool:
        if not is_alive(facts["epmd"]):
            raise PartMissingError(f"Erlang's port mapper ended while starting, see {self.folder / 'epmd.log'}")
        return accepts(facts["epmd_port"])

    def _launch(self, number: int) -> None:
        facts = self.facts
        node = facts["nodes"][number]
        if is_alive(node["process"]):
            return
        command = self.program.command(self.folder, "rabbitmq-server")
        node["process"] = launch(command, self.folder / f"node{number}.out", self._environment(number))
        node["launched_at"] = int(time.time())
        remember(self.folder, facts)
