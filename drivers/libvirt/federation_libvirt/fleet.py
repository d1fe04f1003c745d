"""The hosts of one cluster: which are there, and where an instance is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from federation.contract.errors import HypervisorUnreachable, InvalidState, NotFound, OperationError, PermissionDenied
from federation_libvirt import ownership
from federation_libvirt.connection import Native
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine
from federation_libvirt.settings import Settings

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_HINTS = 10_000
_SIDE_BY_SIDE = 16


class Fleet:
    """Every host of the cluster, by node name."""

    def __init__(self, settings: Settings, cluster: str) -> None:
        self.cluster = cluster
        self.settings = settings
        self.hosts = {node: Host(node, settings) for node in sorted(settings.hosts)}
        # Where an instance was seen last: only a hint, it is looked for there first.
        self._hints: dict[str, str] = {}

    def host(self, node: str) -> Host:
        """The host of that name; NotFound names those that there are."""
        try:
            return self.hosts[node]
        except KeyError:
            known = ", ".join(self.hosts)
            raise NotFound(f"node {node!r} is not part of cluster {self.cluster}; nodes: {known}", node=node) from None

    def find(self, instance: str) -> Machine:
        """Our instance, wherever it is; raises as ``see`` does, and InvalidState when the machine is not ours."""
        machine = self.see(instance)
        self.check_owned(machine)
        return machine

    def see(self, instance: str) -> Machine:
        """The machine with that id, ours or not.

        Raises NotFound when it is nowhere, HypervisorUnreachable when it was not found and a host did not answer: it may
        be there.
        """
        machine = self.find_any(instance)
        if machine is None:
            raise NotFound(f"instance {instance} is not on cluster {self.cluster}", instance=instance)
        return machine

    def find_any(self, instance: str) -> Machine | None:
        """A domain with that id, ours or not; None when every host says, twice, that it has none.

        Twice, because a machine that arrives on one host and leaves another just now can be missed on both.
        """
        hinted = self.hosts.get(self._hints.get(instance, ""))
        if hinted is not None and _has(hinted, instance):
            return Machine(hinted, instance)
        return self._asked_for(instance) or (self._asked_for(instance) if len(self.hosts) > 1 else None)

    def _asked_for(self, instance: str) -> Machine | None:
        answers = self.everywhere(lambda host: _has(host, instance))
        having = [node for node, answer in answers.items() if answer is True]
        if having:
            return self.among(instance, having)
        for answer in answers.values():
            if isinstance(answer, OperationError):
                raise answer
        return None

    def among(self, instance: str, nodes: list[str]) -> Machine:
        """The machine on one of the nodes that have it; NotFound when none has it any more.

        Several have it only while it migrates, or when a migration was never finished: then it is the one that has not
        just arrived.
        """
        machines = [Machine(self.hosts[node], instance) for node in nodes]
        for machine in machines if len(machines) > 1 else ():
            try:
                owner = ownership.read(machine.current())
            except NotFound:
                continue
            if owner is None or not owner.arrived:
                machines = [machine]
                break
        self.remember(machines[-1])
        return machines[-1]

    def having(self, instance: str) -> list[str]:
        """Every node that answers and has the machine."""
        return [node for node, answer in self.everywhere(lambda host: _has(host, instance)).items() if answer is True]

    def find_for(self, host: Host, instance: str) -> Machine | None:
        """Like find_any for a machine that is to be made on ``host``: only that host has to answer."""
        answers = self.everywhere(lambda asked: _has(asked, instance))
        for node, answer in answers.items():
            if answer is True:
                return Machine(self.hosts[node], instance)
            if isinstance(answer, OperationError):
                if node == host.node:
                    raise answer
                logger.warning("%s could not be asked whether it has machine %s: %s", node, instance, answer)
        return None

    def check_owned(self, machine: Machine) -> None:
        """Raise InvalidState unless the domain carries our metadata for this cluster: foreign ones are never touched."""
        owner = ownership.read(machine.definition())
        if owner is None or owner.cluster != self.cluster or owner.instance != machine.instance:
            raise InvalidState(
                f"{machine.host.node}: {machine.instance} is foreign, not of cluster {self.cluster}; it is left alone",
                instance=machine.instance,
            )

    def node_of_name(self, name: str, instance: str) -> str | None:
        """A node that has another domain of this name, None when no host that answers has one."""
        answers = self.everywhere(lambda host: _uuid_of(host, name))
        for node, answer in answers.items():
            if isinstance(answer, OperationError):
                logger.warning("%s could not be asked whether it has a machine named %s: %s", node, name, answer)
            elif answer is not None and answer != instance:
                return node
        return None

    def everywhere(self, ask: Callable[[Host], Answer]) -> dict[str, Answer | OperationError]:
        """What every host answers; a host that cannot be asked gives the error instead."""

        def asked(host: Host) -> Answer | OperationError:
            try:
                return ask(host)
            except (HypervisorUnreachable, PermissionDenied) as error:
                return error

        hosts = list(self.hosts.values())
        if len(hosts) == 1:
            return {hosts[0].node: asked(hosts[0])}
        with ThreadPoolExecutor(max_workers=min(len(hosts), _SIDE_BY_SIDE)) as threads:
            return dict(zip(self.hosts, threads.map(asked, hosts), strict=True))

    def close(self) -> None:
        """Let go of every connection."""
        for host in self.hosts.values():
            host.link.close()

    def remember(self, machine: Machine) -> None:
        """Look for it there first from now on."""
        if len(self._hints) >= _HINTS:
            self._hints.clear()
        self._hints[machine.instance] = machine.host.node


def _has(host: Host, instance: str) -> bool:
    def ask(native: Native) -> bool:
        native.lookupByUUIDString(instance)
        return True

    return bool(host.link.find(f"find {instance}", ask, missing="VIR_ERR_NO_DOMAIN"))


def _uuid_of(host: Host, name: str) -> str | None:
    def ask(native: Native) -> str:
        return str(native.lookupByName(name).UUIDString())

    return host.link.find(f"find a machine named {name}", ask, missing="VIR_ERR_NO_DOMAIN")
