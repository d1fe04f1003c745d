"""RabbitMQ for tests: one node (`rabbitmq`) or a cluster of three (`rabbitmq3`), on loopback, with TLS.

With FEDERATION_TEST_BROKER set to an AMQP URL that broker is used as it is, and cannot be stopped or killed.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from parts.broker_program import BrokerProgram, find_broker_program
from parts.certificates import make_certificates
from parts.processes import end, is_alive, kill, launch, run, send
from parts.state import PartMissingError, accepts, free_ports, instance_folder, locked, read_facts, wait_until
from parts.state import write_facts as remember

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "federation"
VHOST = "federation"
BOOT_SECONDS = 120
# AMQP 0-9-1's protocol header, and the type byte of the method frame that a ready server answers with.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
# A test machine has few cores: idle schedulers sleep instead of spinning.
ERLANG_ARGUMENTS = (
    "+sbwt none +sbwtdcpu none +sbwtdio none "
    "-kernel inet_dist_use_interface {127,0,0,1} -kernel net_ticktime 8 -start_epmd false"
)


class RabbitMQ:
    """A broker of one or more nodes that outlives this process. Nodes are numbered from 0."""

    def __init__(self, part: str = "rabbitmq") -> None:
        """Take the broker of the current instance, running or not."""
        self.part = part
        self.size = 3 if part == "rabbitmq3" else 1
        suite = os.environ.get("FEDERATION_BROKER_SUITE")
        self.folder = instance_folder(f"{part}-{suite}" if suite else part)
        self._program: BrokerProgram | None = None

    @property
    def external_url(self) -> str | None:
        """The broker that the environment gives instead of ours; it counts as a single node."""
        return os.environ.get("FEDERATION_TEST_BROKER") if self.part == "rabbitmq" else None

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
            "federation_url": self.url_of("federation", self.ports),
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

    def start(self) -> None:
        """Start what does not run yet and wait until every node takes connections."""
        if self.external_url:
            return
        with locked(self.folder / "lock"):
            if not self.facts:
                self._prepare()
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
            log = self.folder / "log"
            wait_until(lambda n=number: self._ready_or_dead(n), BOOT_SECONDS, f"RabbitMQ node {number}, see {log}")

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

    def pause(self, number: int = 0) -> None:
        """Freeze one node by SIGSTOP: its peers miss its ticks (net_ticktime 8 s), its clients see silence."""
        self._refuse_external()
        send(self.facts["nodes"][number]["process"], signal.SIGSTOP)

    def resume(self, number: int = 0) -> None:
        """Let a frozen node go on."""
        self._refuse_external()
        send(self.facts["nodes"][number]["process"], signal.SIGCONT)

    def ctl(self, *arguments: str, number: int = 0, program: str = "rabbitmqctl") -> str:
        """Run rabbitmqctl (or another of RabbitMQ's tools) against one node and return what it printed."""
        self._refuse_external()
        name = self.facts["nodes"][number]["name"]
        command = self.program.command(self.folder, program, "-n", name, *arguments)
        return run(command, env=self._environment(number), seconds=120)

    def add_vhost(self, name: str) -> str:
        """Make a virtual host that the tests' user may use, and return its URL."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, USER, ".*", ".*", ".*")
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

    def _prepare(self) -> None:
        certificates = make_certificates(self.folder / "certificates")
        ports = free_ports(3 * self.size + 1)
        nodes = [
            {
                "name": f"federation{number}@localhost",
                "port": ports[3 * number],
                "tls_port": ports[3 * number + 1],
                "distribution_port": ports[3 * number + 2],
                "process": None,
            }
            for number in range(self.size)
        ]
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.folder / "env.conf").write_text("")
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "log").mkdir(exist_ok=True)
        password = secrets.token_hex(8)
        for number, node in enumerate(nodes):
            text = self._configuration(node, nodes, password)
            (self.folder / f"node{number}.conf").write_text(text)
        facts = {"nodes": nodes, "password": password, "epmd_port": ports[-1], "epmd": None}
        remember(self.folder, {**facts, "certificates": certificates, "version": self.program.version})
        self.program.give(self.folder)

    def _configuration(self, node: dict[str, Any], nodes: list[dict[str, Any]], password: str) -> str:
        """rabbitmq.conf of one node; the user and vhost are made at its first boot."""
        seen = self.program.seen(self.folder)
        options = {
            "listeners.tcp.1": f"127.0.0.1:{node['port']}",
            "listeners.ssl.1": f"127.0.0.1:{node['tls_port']}",
            "ssl_options.cacertfile": seen / "certificates/ca.pem",
            "ssl_options.certfile": seen / "certificates/server.pem",
            "ssl_options.keyfile": seen / "certificates/server.key",
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "false",
            "default_user": USER,
            "default_pass": password,
            "default_vhost": VHOST,
            "default_user_tags.administrator": "true",
            "disk_free_limit.absolute": "50MB",
            "vm_memory_high_watermark.absolute": "2GB",
            "raft.wal_max_size_bytes": 64 * 1024 * 1024,
            "log.file.level": "info",
        }
        if self.size > 1:
            options["cluster_formation.peer_discovery_backend"] = "classic_config"
            for count, peer in enumerate(nodes, 1):
                options[f"cluster_formation.classic_config.nodes.{count}"] = peer["name"]
        return "".join(f"{key} = {value}\n" for key, value in options.items())

    def _environment(self, number: int) -> dict[str, str]:
        facts, seen = self.facts, self.program.seen(self.folder)
        node = facts["nodes"][number]
        home = seen / f"node{number}"
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(seen),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(facts["epmd_port"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": str(seen / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(seen / f"node{number}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(seen / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(home),
            "RABBITMQ_LOG_BASE": str(seen / "log"),
            "RABBITMQ_NODENAME": node["name"],
            "RABBITMQ_DIST_PORT": str(node["distribution_port"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            # Makes the start script exec the Erlang machine, so that the pid we know is the broker's own.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _start_epmd(self) -> None:
        facts = self.facts
        if is_alive(facts["epmd"]):
            return
        port = str(facts["epmd_port"])
        command = self.program.command(self.folder, "epmd", "-address", "127.0.0.1", "-port", port)
        facts["epmd"] = launch(command, self.folder / "epmd.log", self._environment(0))
        remember(self.folder, facts)
        wait_until(lambda: accepts(facts["epmd_port"]), 20, "Erlang's port mapper")

    def _launch(self, number: int) -> None:
        facts = self.facts
        node = facts["nodes"][number]
        if is_alive(node["process"]):
            return
        command = self.program.command(self.folder, "rabbitmq-server")
        node["process"] = launch(command, self.folder / f"node{number}.out", self._environment(number))
        node["launched_at"] = int(time.time())
        remember(self.folder, facts)

