"""The driver that does nothing: asks for leave like a changing call would, and answers, without any state.

It shows what everything around a driver costs (benchmarks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.instances import ConsoleOutput, Instance, InstancePage, PowerState
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.testing.hypervisor.settings import SimulatedSettings

Answer = Callable[[SimulatedSettings, Any], msgspec.Struct]


def answer(settings: SimulatedSettings, call: Call, name: str, request: r.Request) -> msgspec.Struct:
    """The result of any operation; ordered ones ask for leave once."""
    if name in _CHANGES:
        call.guard()
        return _CHANGES[name](settings, request)
    return _QUERIES[name](settings, request)


def _instance(settings: SimulatedSettings, request: r.InstanceRequest, state: PowerState) -> Instance:
    node = settings.nodes[0].name if settings.nodes else f"{settings.profile.node_prefix}-1"
    return Instance(
        id=request.instance, name=request.instance, node=node, power_state=state, vcpus=1, memory_bytes=1 << 30
    )


def _in_state(state: PowerState) -> Answer:
    return lambda settings, request: _instance(settings, request, state)


def _created(settings: SimulatedSettings, request: r.Create) -> Instance:
    flavour = request.spec.flavour
    state = PowerState.RUNNING if request.start else PowerState.STOPPED
    plain = _instance(settings, request, state)
    return msgspec.structs.replace(
        plain, name=request.spec.name, vcpus=flavour.vcpus, memory_bytes=flavour.memory_bytes,
        node=request.spec.node or plain.node,
    )  # fmt: skip


def _resized(settings: SimulatedSettings, request: r.Resize) -> Instance:
    plain = _instance(settings, request, PowerState.STOPPED)
    flavour = request.flavour
    return msgspec.structs.replace(plain, vcpus=flavour.vcpus, memory_bytes=flavour.memory_bytes)


def _inventory(settings: SimulatedSettings) -> NodeList:
    return NodeList(
        nodes=tuple(
            Node(
                name=node.name, reachable=True, accepts_instances=True, vcpus_total=node.vcpus, vcpus_used=0,
                memory_bytes_total=node.memory_bytes, memory_bytes_used=0, storage_bytes_total=node.storage_bytes,
                storage_bytes_used=0, instances=0, hypervisor=settings.profile.product,
            )
            for node in settings.inventory()
        )
    )  # fmt: skip


_CHANGES: dict[str, Answer] = {
    "create": _created,
    "destroy": lambda _settings, _request: r.Empty(),
    "resize": _resized,
    "power_on": _in_state(PowerState.RUNNING),
    "power_off": _in_state(PowerState.STOPPED),
    "reboot": _in_state(PowerState.RUNNING),
    "pause": _in_state(PowerState.PAUSED),
    "unpause": _in_state(PowerState.RUNNING),
    "suspend": _in_state(PowerState.SUSPENDED),
    "resume": _in_state(PowerState.RUNNING),
}
_QUERIES: dict[str, Answer] = {
    "probe": lambda settings, _request: ProbeReport(reachable=True, seconds=0.0, hypervisor=settings.profile.product),
    "list_nodes": lambda settings, _request: _inventory(settings),
    "get_instance": _in_state(PowerState.RUNNING),
    "list_instances": lambda _settings, _request: InstancePage(instances=()),
    "get_console_output": lambda _settings, _request: ConsoleOutput(text="", truncated=False),
}
