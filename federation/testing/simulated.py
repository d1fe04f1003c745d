"""The driver ``simulated``: every operation of the contract on a hypervisor that exists only as a file.

For tests, demonstrations and benchmarks.  The hypervisor outlives the workers that drive it; its effect log
(:func:`federation.testing.hypervisor.log.read_log`) is what the history checker judges by.  Like any driver it keeps no
lock: what serialises is the hypervisor.  :func:`federation.testing.hypervisor.dump.read_world` shows all that is there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar, Self, TypeVar, cast

import msgspec

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.captures import CapturedImage
from federation.contract.consoles import Console
from federation.contract.errors import InvalidRequest, NotSupported
from federation.contract.instances import ConsoleOutput, DiskFacts, Instance, InstancePage, InterfaceFacts
from federation.contract.metrics import InstanceMetrics
from federation.contract.nodes import Description, Node, NodeList, ProbeReport
from federation.contract.operations import Lane, Operation, find
from federation.contract.release import CURRENT, LOWEST
from federation.contract.results import (
    Destroyed,
    InterfaceDetached,
    NmiSent,
    PasswordSet,
    SnapshotDeleted,
    VolumeDetached,
)
from federation.contract.snapshots import Snapshot, SnapshotList
from federation.contract.validation import check_capabilities, required_capabilities
from federation.protocol.ordering_key import node_key
from federation.testing.clock import Clock, SystemClock
from federation.testing.hypervisor import (
    adoption,
    captures,
    consoles,
    guest,
    interfaces,
    lifecycle,
    maintenance,
    metrics,
    migration,
    nothing,
    power,
    queries,
    snapshots,
    volumes,
)
from federation.testing.hypervisor.session import Hypervisor, Session
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.hypervisor.steps import wait_for_calls

_Request = TypeVar("_Request", bound=r.Request)
_Result = TypeVar("_Result", bound=msgspec.Struct)


class SimulatedDriver:
    """One cluster's driver; ``clock`` is for tests."""

    settings: ClassVar[type[msgspec.Struct]] = SimulatedSettings

    def __init__(self, settings: SimulatedSettings, cluster: str, clock: Clock | None = None) -> None:
        self._settings = settings
        self._cluster = cluster
        self._hypervisor = None if settings.nothing else Hypervisor(settings, cluster, clock or SystemClock())
        self._description = Description(
            driver="simulated",
            driver_version=_version(),
            releases=(str(LOWEST), str(CURRENT)),
            capabilities=settings.capabilities,
        )

    @classmethod
    def open(cls, settings: msgspec.Struct, cluster: str) -> Self:
        """Make the driver of one cluster; InvalidRequest when the settings are not of this driver or contradict."""
        if not isinstance(settings, SimulatedSettings):
            raise InvalidRequest(f"settings are {type(settings).__name__}, expected {SimulatedSettings.__name__}")
        return cls(settings, cluster)

    def description(self) -> Description:
        """Who this is."""
        return self._description

    def close(self) -> None:
        """Close the files."""
        if self._hypervisor is not None:
            self._hypervisor.database.close()

    def describe(self, _call: Call, _request: r.Describe) -> Description:
        """Who this is."""
        return self._description

    def probe(self, call: Call, request: r.Probe) -> ProbeReport:
        """Whether the file can be read."""
        return self._run(queries.probe, call, request)

    def list_nodes(self, call: Call, request: r.ListNodes) -> NodeList:
        """The inventory."""
        return self._run(queries.list_nodes, call, request)

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        return self._run(lifecycle.create, call, request)

    def destroy(self, call: Call, request: r.Destroy) -> Destroyed:
        """Remove an instance."""
        return self._run(lifecycle.destroy, call, request)

    def resize(self, call: Call, request: r.Resize) -> Instance:
        """Change processors and memory."""
        return self._run(lifecycle.resize, call, request)

    def get_instance(self, call: Call, request: r.GetInstance) -> Instance:
        """Read one instance."""
        return self._run(queries.get_instance, call, request)

    def list_instances(self, call: Call, request: r.ListInstances) -> InstancePage:
        """Read a page of instances."""
        return self._run(queries.list_instances, call, request)

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start."""
        return self._run(power.power_on, call, request)

    def power_off(self, call: Call, request: r.PowerOff) -> Instance:
        """Stop."""
        return self._run(power.power_off, call, request)

    def reboot(self, call: Call, request: r.Reboot) -> Instance:
        """Restart."""
        return self._run(power.reboot, call, request)

    def pause(self, call: Call, request: r.Pause) -> Instance:
        """Halt the processors."""
        return self._run(power.pause, call, request)

    def unpause(self, call: Call, request: r.Unpause) -> Instance:
        """Let them run again."""
        return self._run(power.unpause, call, request)

    def suspend(self, call: Call, request: r.Suspend) -> Instance:
        """Save the memory and stop."""
        return self._run(power.suspend, call, request)

    def resume(self, call: Call, request: r.Resume) -> Instance:
        """Restore the memory and run."""
        return self._run(power.resume, call, request)

    def get_console_output(self, call: Call, request: r.GetConsoleOutput) -> ConsoleOutput:
        """What the guest printed last."""
        return self._run(queries.get_console_output, call, request)

    def set_node_maintenance(self, call: Call, request: r.SetNodeMaintenance) -> Node:
        """Take a node out of service, or back."""
        return self._run(maintenance.set_node_maintenance, call, request)

    def adopt(self, call: Call, request: r.Adopt) -> Instance:
        """Take over a foreign machine."""
        return self._run(adoption.adopt, call, request)

    def attach_volume(self, call: Call, request: r.AttachVolume) -> DiskFacts:
        """Connect a volume."""
        return self._run(volumes.attach_volume, call, request)

    def detach_volume(self, call: Call, request: r.DetachVolume) -> VolumeDetached:
        """Take a volume away."""
        return self._run(volumes.detach_volume, call, request)

    def extend_volume(self, call: Call, request: r.ExtendVolume) -> DiskFacts:
        """Make a volume larger."""
        return self._run(volumes.extend_volume, call, request)

    def attach_interface(self, call: Call, request: r.AttachInterface) -> InterfaceFacts:
        """Add an interface."""
        return self._run(interfaces.attach_interface, call, request)

    def detach_interface(self, call: Call, request: r.DetachInterface) -> InterfaceDetached:
        """Take an interface away."""
        return self._run(interfaces.detach_interface, call, request)

    def create_snapshot(self, call: Call, request: r.CreateSnapshot) -> Snapshot:
        """Keep it as it is now."""
        return self._run(snapshots.create_snapshot, call, request)

    def revert_snapshot(self, call: Call, request: r.RevertSnapshot) -> Instance:
        """Bring it back to a snapshot."""
        return self._run(snapshots.revert_snapshot, call, request)

    def delete_snapshot(self, call: Call, request: r.DeleteSnapshot) -> SnapshotDeleted:
        """Remove a snapshot."""
        return self._run(snapshots.delete_snapshot, call, request)

    def list_snapshots(self, call: Call, request: r.ListSnapshots) -> SnapshotList:
        """Read its snapshots."""
        return self._run(snapshots.list_snapshots, call, request)

    def capture_image(self, call: Call, request: r.CaptureImage) -> CapturedImage:
        """Make an image of its root disk."""
        return self._run(captures.capture_image, call, request)

    def migrate(self, call: Call, request: r.Migrate) -> Instance:
        """Move it to another node."""
        return self._run(migration.migrate, call, request)

    def get_console(self, call: Call, request: r.GetConsole) -> Console:
        """Where its screen or serial line is."""
        return self._run(consoles.get_console, call, request)

    def set_admin_password(self, call: Call, request: r.SetAdminPassword) -> PasswordSet:
        """Set a password in the guest."""
        return self._run(guest.set_admin_password, call, request)

    def send_nmi(self, call: Call, request: r.SendNmi) -> NmiSent:
        """Interrupt the guest."""
        return self._run(guest.send_nmi, call, request)

    def get_metrics(self, call: Call, request: r.GetMetrics) -> InstanceMetrics:
        """What it used."""
        return self._run(metrics.get_metrics, call, request)

    def _run(self, carry_out: Callable[[Session, _Request], _Result], call: Call, request: _Request) -> _Result:
        name = carry_out.__name__
        if self._hypervisor is None:
            return cast("_Result", nothing.answer(self._settings, call, name, request))
        operation = find(name)
        check_capabilities(operation, request, self._description.capabilities)
        machine = self._key(request)
        self._check_node(call, operation, request, machine)
        if operation.lane is Lane.QUERY:
            return carry_out(self._hypervisor.query(call, name, machine), request)
        with self._hypervisor.execution(call, name, machine) as session:
            wait_for_calls(session)
            return carry_out(session, request)

    def _key(self, request: r.Request) -> str:
        if isinstance(request, r.NodeRequest):
            return node_key(self._cluster, request.node)
        return request.instance if isinstance(request, r.InstanceRequest) else ""

    def _check_node(self, call: Call, operation: Operation, request: r.Request, machine: str) -> None:
        """Raise NotSupported when the node concerned lacks a flag that the driver declares."""
        lacks = self._settings.lacks()
        if not lacks or self._hypervisor is None:
            return
        if isinstance(request, r.Create):
            node = request.spec.node or ""
        elif isinstance(request, r.NodeRequest):
            node = request.node
        else:
            there = self._hypervisor.query(call, operation.name, machine).read()
            node = there.node if there else ""
        missing = sorted(required_capabilities(operation, request) & lacks.get(node, frozenset()))
        if missing:
            message = f"{operation.name} needs the capability {missing[0]}, which node {node} lacks"
            raise NotSupported(message, operation=operation.name, capability=", ".join(missing), node=node)


def _version() -> str:
    try:
        return version("driver-federation")
    except PackageNotFoundError:
        return "0+uninstalled"
