"""Say in words what the parts do in Python."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import Any

from parts.bare_guest import BareGuest
from parts.guest import Guest
from parts.hyperv_clients import HypervClients
from parts.libvirt_hosts import LibvirtHosts
from parts.postgresql import PostgreSQL
from parts.prometheus import Prometheus
from parts.rabbitmq import RabbitMQ
from parts.state import PartMissingError, abandoned_instances
from parts.vcenter import VCenterSimulator

PARTS: dict[str, Any] = {
    "rabbitmq": lambda: RabbitMQ("rabbitmq"),
    "rabbitmq3": lambda: RabbitMQ("rabbitmq3"),
    "guest": Guest,
    "bare-guest": BareGuest,
    "libvirt": LibvirtHosts,
    "postgresql": PostgreSQL,
    "vcenter": VCenterSimulator,
    "hyperv-clients": HypervClients,
    "prometheus": Prometheus,
}
NODE_COMMANDS = ("restart", "kill", "pause", "resume")
SHOWN_COMMANDS = ("start", "status")


def main(arguments: list[str]) -> int:
    """Run one command; 0 when it was done, 1 with the reason on standard error when it could not be."""
    parser = argparse.ArgumentParser(prog="parts", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("command", choices=["install", "start", "stop", "status", "env", *NODE_COMMANDS])
    parser.add_argument("node", type=int, nargs="?", help="a node of rabbitmq3, or a host of libvirt, from 0")
    chosen = parser.parse_args(arguments)
    # Each test session that wants the cluster starts one of its own.
    names = [name for name in PARTS if name != "rabbitmq3"] if chosen.part == "all" else [chosen.part]
    failed = False
    for name in names:
        started = time.monotonic()
        try:
            _run(PARTS[name](), chosen.command, chosen.node)
        except PartMissingError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
        else:
            if chosen.command != "env":
                print(f"{name}: {chosen.command} took {time.monotonic() - started:.1f} s", file=sys.stderr)
    if (chosen.part, chosen.command) == ("all", "stop"):
        _remove_abandoned()
    return int(failed)


def _run(part: Any, command: str, node: int | None) -> None:
    if command == "env":
        for key, value in part.env().items():
            print(f"export {key}={shlex.quote(value)}")
        return
    if command in NODE_COMMANDS:
        action = getattr(part, command, None)
        if action is None:
            raise PartMissingError(f"{command} is not possible here")
        action() if node is None else action(node)
    elif command != "status" and node is not None:
        action = getattr(part, f"{command}_node", None)
        if action is None:
            raise PartMissingError(f"it has no nodes to {command} one by one")
        action(node)
    elif command != "status":
        getattr(part, command)()
    if command in SHOWN_COMMANDS:
        print(json.dumps(part.status(), indent=2))


def _remove_abandoned() -> None:
    """End the servers of test runs that were themselves killed."""
    for name in abandoned_instances():
        RabbitMQ("rabbitmq", name).remove()
        RabbitMQ("rabbitmq3", name).remove()
        LibvirtHosts(name).remove()
