"""The driver that does nothing: asks for leave like a changing call would, and answers, without any state.

It shows what everything around a driver costs (benchmarks).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.captures import CapturedImage, CaptureTemplate
from federation.contract.consoles import Console
from federation.contract.instances import (
    ConsoleOutput,
    DiskFacts,
    Instance,
    InstancePage,
    InterfaceFacts,
    PowerState,
)
from federation.contract.metrics import InstanceMetrics
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.contract.results import (
    Destroyed,
    InterfaceDetached,
    NmiSent,
    PasswordSet,
    SnapshotDeleted,
    VolumeDetached,
)
from federation.contract.snapshots import Snapshot, SnapshotList
from federation.contract.volumes import NewVolume
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


def _attached(_settings: SimulatedSettings, request: r.AttachVolume) -> DiskFacts:
    source = request.volume
    size = source.size_bytes if isinstance(source, NewVolume) else None
    return DiskFacts(name=source.volume, size_bytes=size, volume=source.volume, pool=source.pool)


def _extended(_settings: SimulatedSettings, request: r.ExtendVolume) -> DiskFacts:
    return DiskFacts(name=request.volume, size_bytes=request.size_bytes, volume=request.volume, pool=request.pool)


def _connected(_settings: SimulatedSettings, request: r.AttachInterface) -> InterfaceFacts:
    asked = request.interface
    return InterfaceFacts(mac=asked.mac or "02:00:00:00:00:00", network=asked.network, vlan=asked.vlan)


def _kept(_settings: SimulatedSettings, request: r.CreateSnapshot) -> Snapshot:
    return Snapshot(id=request.instance, name=request.name, created_at=_EPOCH, power_state=PowerState.STOPPED)


def _captured(settings: SimulatedSettings, request: r.CaptureImage) -> CapturedImage:
    target = request.target
    if isinstance(target, CaptureTemplate):
        return CapturedImage(
            format=settings.format_of(None), virtual_size_bytes=1 << 30, template=target.template, pool=target.pool
        )
    return CapturedImage(format=target.format, virtual_size_bytes=1 << 30, url=target.url)


def _adopted(settings: SimulatedSettings, request: r.Adopt) -> Instance:
    plain = _instance(settings, request, PowerState.RUNNING)
    return msgspec.structs.replace(plain, name=request.name, node=request.node, metadata=dict(request.metadata))


def _migrated(settings: SimulatedSettings, request: r.Migrate) -> Instance:
    state = PowerState.RUNNING if request.mode is r.MigrateMode.LIVE else PowerState.STOPPED
    return msgspec.structs.replace(_instance(settings, request, state), node=request.node)


def _maintained(settings: SimulatedSettings, request: r.SetNodeMaintenance) -> Node:
    plain = _inventory(settings).nodes[0]
    return msgspec.structs.replace(
        plain, name=request.node, maintenance=request.enabled, accepts_instances=not request.enabled
    )


def _console(_settings: SimulatedSettings, _request: r.GetConsole) -> Console:
    return Console(host="node", port=1)


def _done(result: type[msgspec.Struct]) -> Answer:
    return lambda _settings, _request: result()


_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_CHANGES: dict[str, Answer] = {
    "create": _created,
    "destroy": _done(Destroyed),
    "adopt": _adopted,
    "set_node_maintenance": _maintained,
    "attach_volume": _attached,
    "detach_volume": _done(VolumeDetached),
    "extend_volume": _extended,
    "attach_interface": _connected,
    "detach_interface": _done(InterfaceDetached),
    "create_snapshot": _kept,
    "revert_snapshot": _in_state(PowerState.STOPPED),
    "delete_snapshot": _done(SnapshotDeleted),
    "capture_image": _captured,
    "migrate": _migrated,
    "set_admin_password": _done(PasswordSet),
    "send_nmi": _done(NmiSent),
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
    "list_snapshots": lambda _settings, _request: SnapshotList(snapshots=()),
    "get_console": _console,
    "get_metrics": lambda _settings, _request: InstanceMetrics(at=_EPOCH),
    "get_console_output": lambda _settings, _request: ConsoleOutput(text="", truncated=False),
}
