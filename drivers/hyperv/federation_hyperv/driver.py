"""The driver: one method for every operation, each a few words on top of the module that does it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import ClassVar, Self, TypeVar

import msgspec
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from federation.contract import requests as r
from federation.contract.call import Call
from federation.contract.capabilities import Capabilities, Capability, Limits
from federation.contract.captures import CapturedImage
from federation.contract.consoles import Console
from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import DiskFacts, ImageFormat, Instance, InstancePage
from federation.contract.metrics import InstanceMetrics
from federation.contract.nodes import Description, Node, NodeList, ProbeReport
from federation.contract.operations import find
from federation.contract.results import (
    Destroyed,
    SnapshotDeleted,
    VolumeDetached,
)
from federation.contract.snapshots import Snapshot, SnapshotList
from federation.contract.struct_types import prepare_types
from federation_hyperv import consoles, inventory, maintenance, metrics, power, sizing, snapshots, volumes
from federation_hyperv.adoption import adopt
from federation_hyperv.attempt import Attempt
from federation_hyperv.captures import capture
from federation_hyperv.creation import create
from federation_hyperv.fleet import Fleet
from federation_hyperv.interfaces import MAX_INTERFACES
from federation_hyperv.machine import Machine
from federation_hyperv.migration import migrate
from federation_hyperv.removal import destroy
from federation_hyperv.settings import Settings

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FLAGS = frozenset(
    {
        Capability.BOOT_IMAGE,
        Capability.BOOT_TEMPLATE,
        Capability.LINKED_TEMPLATES,
        Capability.BOOT_VOLUME,
        Capability.UEFI,
        Capability.DATA_DISKS,
        Capability.INTERFACES,
        Capability.VLAN,
        Capability.USER_DATA,
        Capability.RESIZE,
        Capability.GRACEFUL_POWER_OFF,
        Capability.REBOOT,
        Capability.SOFT_REBOOT,
        Capability.PAUSE,
        Capability.SUSPEND,
        Capability.VOLUMES,
        Capability.NEW_VOLUMES,
        Capability.EXTEND_VOLUME,
        Capability.SNAPSHOTS,
        Capability.MEMORY_SNAPSHOTS,
        Capability.CAPTURE_TEMPLATE,
        Capability.CAPTURE_UPLOAD,
        Capability.CONSOLE_RDP,
        Capability.METRICS,
        Capability.NODE_MAINTENANCE,
        Capability.ADOPT,
        Capability.LIVE_MIGRATION,
        Capability.COLD_MIGRATION,
    }
)
"""What this driver can do, each tried on the simulated host; see the operator's page for what a real one has shown."""

LIMITS = Limits(
    max_data_disks=16,
    max_interfaces=MAX_INTERFACES,
    max_volumes=volumes.MAX_VOLUMES,
    max_snapshots=snapshots.MAX_SNAPSHOTS,
)
"""One synthetic SCSI controller has 64 slots for data disks and volumes."""


class HypervDriver:
    """Drives Microsoft Hyper-V on one or more hosts through WS-Management."""

    settings: ClassVar[type[msgspec.Struct]] = Settings

    def __init__(self, settings: Settings, cluster: str) -> None:
        self._fleet = Fleet(settings, cluster)

    @classmethod
    def open(cls, settings: msgspec.Struct, cluster: str) -> Self:
        """Make the driver; hosts are reached when they are needed.  TypeError when the settings are not ours."""
        if not isinstance(settings, Settings):
            raise TypeError(f"settings are {type(settings).__name__}, expected {Settings.__qualname__}")
        prepare_types()
        return cls(settings, cluster)

    def description(self) -> Description:
        """Name, version, releases and capabilities."""
        return Description(
            driver="hyperv",
            driver_version=version("federation-driver-hyperv"),
            releases=("1.0", "1.1"),
            capabilities=Capabilities(flags=FLAGS, limits=LIMITS, image_formats=frozenset({ImageFormat.VHDX})),
        )

    def close(self) -> None:
        """Let go of every connection."""
        self._fleet.close()

    def describe(self, _call: Call, _request: r.Describe) -> Description:
        """Say who the driver is."""
        return self.description()

    def probe(self, _call: Call, _request: r.Probe) -> ProbeReport:
        """Ask every host for its version."""
        return _declared("probe", lambda: inventory.probe(self._fleet))

    def list_nodes(self, _call: Call, _request: r.ListNodes) -> NodeList:
        """Measure every host."""
        return _declared("list_nodes", lambda: inventory.nodes(self._fleet))

    def get_instance(self, _call: Call, request: r.GetInstance) -> Instance:
        """Read one instance."""
        return _declared("get_instance", lambda: self._facts(self._fleet.see(request.instance)))

    def list_instances(self, _call: Call, request: r.ListInstances) -> InstancePage:
        """Read a page of instances."""
        return _declared("list_instances", lambda: inventory.instances(self._fleet, request))

    def get_console(self, _call: Call, request: r.GetConsole) -> Console:
        """Say where the screen or the serial line is."""
        return _declared("get_console", lambda: consoles.reach(self._fleet, request.instance, request.kind))

    def get_metrics(self, _call: Call, request: r.GetMetrics) -> InstanceMetrics:
        """Read the counters."""
        return _declared("get_metrics", lambda: metrics.metrics(self._fleet, request.instance))

    def set_node_maintenance(self, call: Call, request: r.SetNodeMaintenance) -> Node:
        """Take a node out of service for new instances, or back."""
        return self._converge(
            "set_node_maintenance", call, lambda attempt: maintenance.set_maintenance(self._fleet, attempt, request)
        )

    def adopt(self, call: Call, request: r.Adopt) -> Instance:
        """Take over a machine that exists."""
        return self._change("adopt", call, lambda attempt: adopt(self._fleet, attempt, request))

    def migrate(self, call: Call, request: r.Migrate) -> Instance:
        """Move an instance to another node."""
        return self._change("migrate", call, lambda attempt: migrate(self._fleet, attempt, request))

    def create(self, call: Call, request: r.Create) -> Instance:
        """Make an instance."""
        return self._converge("create", call, lambda attempt: self._facts(create(self._fleet, attempt, request)))

    def destroy(self, call: Call, request: r.Destroy) -> Destroyed:
        """Remove an instance."""

        def work(attempt: Attempt) -> Destroyed:
            destroy(self._fleet, attempt, request.instance)
            return Destroyed()

        return self._converge("destroy", call, work)

    def resize(self, call: Call, request: r.Resize) -> Instance:
        """Give a stopped instance another flavour."""
        return self._change("resize", call, lambda attempt: sizing.resize(self._fleet, attempt, request))

    def power_on(self, call: Call, request: r.PowerOn) -> Instance:
        """Start an instance."""
        return self._change(
            "power_on", call, lambda attempt: power.change(self._fleet, attempt, request.instance, "power_on")
        )

    def power_off(self, call: Call, request: r.PowerOff) -> Instance:
        """Stop an instance."""
        return self._change("power_off", call, lambda attempt: power.power_off(self._fleet, attempt, request))

    def reboot(self, call: Call, request: r.Reboot) -> Instance:
        """Restart an instance."""
        return self._change("reboot", call, lambda attempt: power.reboot(self._fleet, attempt, request))

    def pause(self, call: Call, request: r.Pause) -> Instance:
        """Halt an instance's processors."""
        return self._change(
            "pause", call, lambda attempt: power.change(self._fleet, attempt, request.instance, "pause")
        )

    def unpause(self, call: Call, request: r.Unpause) -> Instance:
        """Let an instance's processors run."""
        return self._change(
            "unpause", call, lambda attempt: power.change(self._fleet, attempt, request.instance, "unpause")
        )

    def suspend(self, call: Call, request: r.Suspend) -> Instance:
        """Save an instance's memory and stop it."""
        return self._change(
            "suspend", call, lambda attempt: power.change(self._fleet, attempt, request.instance, "suspend")
        )

    def resume(self, call: Call, request: r.Resume) -> Instance:
        """Bring a suspended instance back."""
        return self._change(
            "resume", call, lambda attempt: power.change(self._fleet, attempt, request.instance, "resume")
        )

    def attach_volume(self, call: Call, request: r.AttachVolume) -> DiskFacts:
        """Connect a volume."""
        return self._converge("attach_volume", call, lambda attempt: volumes.attach(self._fleet, attempt, request))

    def detach_volume(self, call: Call, request: r.DetachVolume) -> VolumeDetached:
        """Take a volume away."""
        return self._converge("detach_volume", call, lambda attempt: volumes.detach(self._fleet, attempt, request))

    def extend_volume(self, call: Call, request: r.ExtendVolume) -> DiskFacts:
        """Make an attached volume larger."""
        return self._converge("extend_volume", call, lambda attempt: volumes.extend(self._fleet, attempt, request))

    def create_snapshot(self, call: Call, request: r.CreateSnapshot) -> Snapshot:
        """Take a snapshot."""
        return self._converge("create_snapshot", call, lambda attempt: snapshots.create(self._fleet, attempt, request))

    def revert_snapshot(self, call: Call, request: r.RevertSnapshot) -> Instance:
        """Bring an instance back to a snapshot."""
        return self._change("revert_snapshot", call, lambda attempt: snapshots.revert(self._fleet, attempt, request))

    def delete_snapshot(self, call: Call, request: r.DeleteSnapshot) -> SnapshotDeleted:
        """Remove a snapshot."""
        return self._converge("delete_snapshot", call, lambda attempt: snapshots.delete(self._fleet, attempt, request))

    def list_snapshots(self, _call: Call, request: r.ListSnapshots) -> SnapshotList:
        """Read the snapshots of an instance."""
        return _declared("list_snapshots", lambda: snapshots.listed(self._fleet, request.instance))

    def capture_image(self, call: Call, request: r.CaptureImage) -> CapturedImage:
        """Make an image of the root disk."""
        return self._converge("capture_image", call, lambda attempt: capture(self._fleet, attempt, request))

    def _facts(self, machine: Machine) -> Instance:
        return machine.facts(self._fleet.cluster)

    def _change(self, operation: str, call: Call, work: Callable[[Attempt], Machine]) -> Instance:
        return self._converge(operation, call, lambda attempt: self._facts(work(attempt)))

    def _converge(self, operation: str, call: Call, work: Callable[[Attempt], Answer]) -> Answer:
        """Do the work, and do it again as a recovery when the host is lost after something was sent to it.

        Every operation is convergent, so the second run finds out what became of the first.  Raises OutcomeUnknown when
        the host does not come back within the tries that the settings allow.
        """
        attempt = Attempt(call)
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, HypervisorUnreachable) and attempt.changes > 0),
            stop=stop_after_attempt(self._fleet.settings.timeouts.settle_tries),
            wait=wait_random_exponential(multiplier=1.0, min=1.0, max=5.0),
            sleep=lambda seconds: _wait_for_host(attempt, seconds),
            reraise=True,
        )
        try:
            return retrying(lambda: _declared(operation, lambda: work(attempt)))
        except HypervisorUnreachable as error:
            if not attempt.changes:
                raise
            raise OutcomeUnknown(f"the host was lost in the middle of {operation}: {error.message}") from error


def _wait_for_host(attempt: Attempt, seconds: float) -> None:
    attempt.recovering = True
    attempt.progress(None, "the host was lost; waiting for it")
    try:
        attempt.sleep(seconds)
    except OperationError as error:
        raise OutcomeUnknown(f"the host was lost in the middle of a change; meanwhile: {error.message}") from error


def _declared(operation: str, work: Callable[[], Answer]) -> Answer:
    """Run, and turn an error that this operation does not declare into one that it does, in the same words."""
    try:
        return work()
    except OperationError as error:
        if find(operation).may_raise(error.code):
            raise
        raise HypervisorRefused(error.message, **error.detail) from error
