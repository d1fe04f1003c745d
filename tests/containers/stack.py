"""docker-compose.yml as a project of our own: brought up, asked, scaled, hit, taken down; nothing else on the engine is touched."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.processes import identify, is_alive, kill
from parts.state import free_ports, wait_until

if TYPE_CHECKING:
    from containers.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
PORTS = (
    "FEDERATION_API_PORT",
    "FEDERATION_API_PORT_2",
    "FEDERATION_RABBITMQ_PORT",
    "FEDERATION_PROMETHEUS_PORT",
    "FEDERATION_GRAFANA_PORT",
)
PUBLISHED = (("manager-1", 8780), ("manager-2", 8780), ("rabbitmq", 15672), ("prometheus", 9090), ("grafana", 3000))
ONE_SHOTS = frozenset({"setup", "provision", "images", "enrol-hyperv", "enrol-kvm", "enrol-lab", "enrol-vsphere"})
# They come and go, and nobody waits for one of them.
HEALTH_CHECKS = (
    "federation-health",
    "openssl s_client",
    "pg_isready",
    "promtool",
    "rabbitmq-diagnostics",
    "virsh",
    "sleep ",
)
# There is no image of it here (base_images.missing).
LEFT_OUT = ("grafana",)


@dataclass(frozen=True)
class Container:
    """One container of the project, as the engine shows it."""

    id: str
    service: str
    state: str
    health: str
    exit_code: int

    @property
    def is_well(self) -> bool:
        """Running and, where it can say so, healthy; a one-shot has ended well."""
        if self.service in ONE_SHOTS:
            return self.state == "exited" and self.exit_code == 0
        return self.state == "running" and self.health in {"", "healthy"}


@dataclass(frozen=True)
class Process:
    """One process inside a container, by its id on this machine."""

    service: str
    container: str
    pid: int
    command: str

    @property
    def kind(self) -> tuple[str, str]:
        """Processes of one kind do the same: the service, and the command without numbers, addresses and paths of data."""
        words = self.command.split()
        if words[0] == "postgres:":
            return self.service, " ".join(words[:3] if words[1] in {"io", "logical"} else words[:2])
        return self.service, " ".join(re.sub(r"\d+", "N", Path(word).name) for word in words[:3])

    def kill(self) -> bool:
        """SIGKILL: nothing is flushed, nobody is told. False when it had ended before."""
        process = identify(self.pid)
        was_there = is_alive(process)
        kill(process)
        return was_there


class Stack:
    """The demonstration, in a project with ports and volumes of its own."""

    def __init__(self, engine: Engine, name: str) -> None:
        """Take the project of this name, running or not."""
        self.engine = engine
        self.name = name
        self.ports: dict[str, int] = {}

    def compose(self, *arguments: str, seconds: float = 600) -> str:
        """Run `docker compose` on the project, and return what it printed."""
        given = ["compose", "--project-name", self.name, "--profile", "demo", "--progress", "plain"]
        return self.engine.docker(*given, *arguments, seconds=seconds, cwd=ROOT)

    def take_ports(self, owner: Path) -> None:
        """Find free ports for what is published; Compose reads them from the environment."""
        self.ports = dict(zip(PORTS, free_ports(len(PORTS), owner), strict=True))
        self.engine.environment.update({name: str(port) for name, port in self.ports.items()})

    def known_ports(self) -> None:
        """Read the ports of a project that runs already."""
        inside = dict(zip(PORTS, PUBLISHED, strict=True))
        for name, (service, port) in inside.items():
            if service not in LEFT_OUT:
                told = self.compose("port", service, str(port)).strip()
                self.ports[name] = int(told.rpartition(":")[2])
        self.engine.environment.update({name: str(port) for name, port in self.ports.items()})

    def services(self) -> list[str]:
        """The services of the profile that can run here."""
        return [name for name in self.compose("config", "--services").split() if name not in LEFT_OUT]

    def up(self) -> None:
        """Start what does not run; returns when every container that others wait for is well."""
        self.compose("up", "--detach", "--no-build", *self.services(), seconds=900)

    def scale(self, service: str, count: int) -> None:
        """Have so many replicas of a service."""
        wanted = ["--no-deps", "--no-recreate", "--scale", f"{service}={count}", service]
        self.compose("up", "--detach", "--no-build", *wanted, seconds=300)

    def down(self) -> None:
        """Remove the project with its volumes."""
        self.compose("--profile", "tools", "down", "--volumes", "--remove-orphans", "--timeout", "20", seconds=300)

    def run(self, service: str, *arguments: str) -> str:
        """`docker compose run --rm SERVICE …`."""
        return self.compose("run", "--rm", "--no-TTY", service, *arguments)

    def containers(self) -> list[Container]:
        """All containers of the project that Compose started as services."""
        found = self.engine.answer("compose", "--project-name", self.name, "ps", "--all", "--format", "json")
        return [
            Container(each["ID"], each["Service"], each["State"], each["Health"], int(each["ExitCode"]))
            for each in found
        ]

    def unwell(self) -> list[str]:
        """The containers that do not do what they should, in words."""
        return [f"{c.service} {c.state} {c.health}".strip() for c in self.containers() if not c.is_well]

    def wait_well(self, seconds: float = 180) -> None:
        """Wait until every container is well."""
        wait_until(lambda: not self.unwell(), seconds, "all containers to be well", step=0.5)

    def processes(self) -> list[Process]:
        """Every process in every container that runs on."""
        found = []
        for container in self.containers():
            if container.service in ONE_SHOTS or container.state != "running":
                continue
            for line in self.engine.docker("top", container.id, "-eo", "pid,args").splitlines()[1:]:
                pid, command = line.strip().split(None, 1)
                if not any(program in command for program in HEALTH_CHECKS):
                    found.append(Process(container.service, container.id, int(pid), command))
        return found

    def partitions(self, cluster: str) -> Counter[str]:
        """How many partitions of a cluster each worker is the active consumer of, as the queues themselves say.

        Not by the management API: it was seen to keep consumers active that had long handed over.
        """
        users = {each["pid"]: str(each["user"]) for each in self._told("list_channels", "pid", "user")}
        consumers = self._told("list_consumers", "queue_name", "channel_pid", "active")
        prefix = f"federation.{cluster}.e"
        return Counter(
            users.get(each["channel_pid"], "somebody who left").rpartition(".")[2]
            for each in consumers
            if each["active"] and each["queue_name"].startswith(prefix)
        )

    def _told(self, *question: str) -> list[dict[str, Any]]:
        """What rabbitmqctl answers about the virtual host."""
        command = ["rabbitmqctl", "--quiet", question[0], "--vhost", "federation", *question[1:], "--formatter", "json"]
        text = self.compose("exec", "--no-TTY", "rabbitmq", *command)
        answer: list[dict[str, Any]] = json.loads(text[text.index("[") :])
        return answer

    def describe(self) -> list[str]:
        """What each container says of itself at the end, for when something failed."""
        return [f"{c.service}: {c.state} {c.health} exit {c.exit_code}" for c in self.containers()]
