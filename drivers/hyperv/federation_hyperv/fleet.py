"""The hosts of one cluster: which are there, and where an instance is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from federation.contract.errors import HypervisorUnreachable, InvalidState, NotFound, OperationError, PermissionDenied
from federation_hyperv import facts
from federation_hyperv.facts import Parts
from federation_hyperv.host import Host, quoted
from federation_hyperv.machine import Machine
from federation_hyperv.settings import Settings

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
        if not self.owns(machine.parts):
            raise InvalidState(
                f"{machine.name} is foreign, not of cluster {self.cluster}; it is left alone", instance=instance
            )
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
        """A machine with that id, ours or not; None when every host says, twice, that it has none.

        Twice, because a machine that is handed over just now can be missed on both: one was asked before it came, the
        other after it had gone.
        """
        hinted = self.hosts.get(self._hints.get(instance, ""))
        if hinted is not None and (there := self.on(hinted, instance)) is not None:
            return there
        return self._asked_for(instance) or (self._asked_for(instance) if len(self.hosts) > 1 else None)

    def _asked_for(self, instance: str) -> Machine | None:
        answers = self.everywhere(lambda host: self.on(host, instance))
        found = [answer for answer in answers.values() if isinstance(answer, Machine)]
        if found:
            machine = max(found, key=lambda one: self.owns(one.parts))
            self.remember(machine)
            return machine
        for answer in answers.values():
            if isinstance(answer, OperationError):
                raise answer
        return None

    def on(self, host: Host, instance: str) -> Machine | None:
        """The machine with that id on one host; ours before one that only looks like it."""
        found = [one for one in host.find(instance) if facts.instance_of(one, self.cluster) == instance]
        return Machine(host, instance, max(found, key=self.owns)) if found else None

    def owns(self, parts: Parts) -> bool:
        """Whether a machine carries our note for this cluster: foreign ones are never touched."""
        return facts.is_owned(parts, parts.note, self.cluster)

    def having(self, instance: str) -> dict[str, Machine]:
        """Every node that answers and has the machine."""
        answers = self.everywhere(lambda host: self.on(host, instance))
        return {node: answer for node, answer in answers.items() if isinstance(answer, Machine)}

    def find_for(self, host: Host, instance: str) -> Machine | None:
        """Like find_any for a machine that is to be made on ``host``: only that host has to answer."""
        answers = self.everywhere(lambda asked: self.on(asked, instance) or _bears(asked, instance))
        for node, answer in answers.items():
            if isinstance(answer, Machine):
                return answer
            if isinstance(answer, OperationError):
                if node == host.node:
                    raise answer
                logger.warning("%s could not be asked whether it has machine %s: %s", node, instance, answer)
        return None

    def node_of_name(self, name: str, instance: str) -> str | None:
        """A node that has another machine of this name, None when no host that answers has one."""
        answers = self.everywhere(lambda host: self._bears_name(host, name, instance))
        for node, answer in answers.items():
            if isinstance(answer, OperationError):
                logger.warning("%s could not be asked whether it has a machine named %s: %s", node, name, answer)
            elif answer:
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

    def _bears_name(self, host: Host, name: str, instance: str) -> bool:
        found = host.heads(f"ElementName = '{quoted(name)}'")
        return any(facts.instance_of(one, self.cluster) != instance for one in found)


def _bears(host: Host, instance: str) -> Machine | None:
    """A machine that has the id without being ours: its BIOSGUID may say so although its id is another."""
    found = host.find(instance)
    return Machine(host, instance, found[0]) if found else None
