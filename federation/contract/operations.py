"""Every operation, declared once.  Worker, manager, command line and documentation are driven from this table."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from federation.contract import errors as e
from federation.contract import requests as r
from federation.contract import results as done
from federation.contract.capabilities import Capability
from federation.contract.captures import CapturedImage
from federation.contract.consoles import Console
from federation.contract.instances import ConsoleOutput, DiskFacts, Instance, InstancePage, InterfaceFacts
from federation.contract.metrics import InstanceMetrics
from federation.contract.nodes import Description, Node, NodeList, ProbeReport
from federation.contract.snapshots import Snapshot, SnapshotList


class Lane(enum.StrEnum):
    """How an operation travels."""

    ORDERED = "ordered"
    """A change: through the partitions, in order."""
    QUERY = "query"
    """A read: to any worker, unordered."""


class Ordering(enum.StrEnum):
    """What an ordered operation is ordered by."""

    INSTANCE = "instance"
    NODE = "node"


class Convergence(enum.StrEnum):
    """Why a repeat with the same operation id reaches the same end."""

    TARGET = "target"
    """The request names a state; what is there already is left."""
    NAMED = "named"
    """What is made bears a name derived from the instance or operation, and is found by it."""
    MARKED = "marked"
    """A marker with the operation's id is written first and read on a repeat."""
    READ = "read"
    """Nothing is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """An operation's revision that proved wrong.

    ``replaced_by`` names operation and revision; ``since`` is the release that says so; ``removal`` is the first release
    that may drop it, at least one full minor cycle later.
    """

    replaced_by: tuple[str, int]
    since: str
    removal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The declaration of one revision of one operation.

    ``verb`` is the word of the command line and of the API; ``default_deadline_seconds`` runs from acceptance;
    ``makes_instance`` says that the instance is not known before (the caller may leave its id out of ``create``).
    """

    name: str
    revision: int = 1
    group: str
    verb: str
    summary: str
    lane: Lane
    ordering: Ordering | None
    request: type[r.Request]
    result: type[msgspec.Struct]
    convergence: Convergence
    errors: frozenset[str] = field(default_factory=frozenset)
    capability: Capability | None = None
    since: str = "1.0"
    default_deadline_seconds: float = 3600.0
    makes_instance: bool = False
    deprecated: Deprecation | None = None

    def may_raise(self, code: str) -> bool:
        """Whether a driver may end this operation with this code."""
        return code in self.errors


QUERY_ERRORS: tuple[type[e.OperationError], ...] = (
    e.InvalidRequest,
    e.NotSupported,
    e.HypervisorUnreachable,
    e.PermissionDenied,
    e.HypervisorRefused,
    e.TimedOut,
    e.BackendUnavailable,
)
CHANGE_ERRORS: tuple[type[e.OperationError], ...] = (
    *QUERY_ERRORS,
    e.NotFound,
    e.InvalidState,
    e.Conflict,
    e.Cancelled,
    e.OutcomeUnknown,
)


def _codes(*classes: type[e.OperationError]) -> frozenset[str]:
    return frozenset(error.code for error in classes)


def _query(  # noqa: PLR0913 (a row of the table)
    name: str, group: str, verb: str, summary: str, request: type[r.Request], result: type[msgspec.Struct],
    *more: type[e.OperationError], capability: Capability | None = None,
) -> Operation:  # fmt: skip
    return Operation(
        name=name, group=group, verb=verb, summary=summary, request=request, result=result,
        lane=Lane.QUERY, ordering=None, convergence=Convergence.READ,
        errors=_codes(*QUERY_ERRORS, *more), capability=capability, default_deadline_seconds=30.0,
    )  # fmt: skip


def _change(  # noqa: PLR0913 (a row of the table)
    name: str, group: str, verb: str, summary: str, request: type[r.Request], result: type[msgspec.Struct],
    convergence: Convergence, *more: type[e.OperationError],
    capability: Capability | None = None, ordering: Ordering = Ordering.INSTANCE, deadline_seconds: float = 3600.0,
    makes_instance: bool = False,
) -> Operation:  # fmt: skip
    return Operation(
        name=name, group=group, verb=verb, summary=summary, request=request, result=result,
        lane=Lane.ORDERED, ordering=ordering, convergence=convergence,
        errors=_codes(*CHANGE_ERRORS, *more), capability=capability,
        default_deadline_seconds=deadline_seconds, makes_instance=makes_instance,
    )  # fmt: skip


_C = Convergence
_LONG = 6 * 3600.0
"""For what copies whole disks."""
DECLARED: tuple[Operation, ...] = (
    _query("describe", "identity", "describe", "Say who the driver is and what it can do.", r.Describe, Description),
    _query("probe", "identity", "probe", "Say whether the hypervisor answers.", r.Probe, ProbeReport),
    _query("list_nodes", "nodes", "list", "List the nodes with their inventory, usage and health.", r.ListNodes, NodeList),
    _change(
        "set_node_maintenance", "nodes", "maintenance", "Take a node out of service for new instances, or back.",
        r.SetNodeMaintenance, Node, _C.TARGET, e.InsufficientResources, capability=Capability.NODE_MAINTENANCE, ordering=Ordering.NODE,
    ),
    _change(
        "create", "instances", "create", "Make an instance and start it.", r.Create, Instance, _C.NAMED,
        e.AlreadyExists, e.InsufficientResources, e.ImageUnavailable, e.ImageRejected, makes_instance=True,
    ),
    _change("destroy", "instances", "delete", "Stop and remove an instance with its disks.", r.Destroy, done.Destroyed, _C.TARGET),
    _change(
        "adopt", "instances", "adopt", "Take over a machine that exists, without restarting it.", r.Adopt, Instance,
        _C.TARGET, e.AlreadyExists, capability=Capability.ADOPT, makes_instance=True,
    ),
    _change(
        "resize", "instances", "resize", "Change processors and memory of an instance.", r.Resize, Instance,
        _C.TARGET, e.InsufficientResources, e.GuestRefused, capability=Capability.RESIZE,
    ),
    _query("get_instance", "instances", "get", "Read one instance.", r.GetInstance, Instance, e.NotFound),
    _query("list_instances", "instances", "list", "Read the instances, page by page.", r.ListInstances, InstancePage),
    _change(
        "power_on", "power", "start", "Start an instance.", r.PowerOn, Instance, _C.TARGET, e.InsufficientResources
    ),
    _change(
        "power_off", "power", "stop", "Stop an instance, gracefully or hard.", r.PowerOff, Instance, _C.TARGET,
        e.GuestRefused,
    ),
    _change(
        "reboot", "power", "reboot", "Restart a running instance, soft or hard.", r.Reboot, Instance, _C.MARKED,
        e.InsufficientResources, e.GuestRefused, capability=Capability.REBOOT,
    ),
    _change(
        "pause", "power", "pause", "Halt the processors, keep the memory.", r.Pause, Instance, _C.TARGET,
        capability=Capability.PAUSE,
    ),
    _change(
        "unpause", "power", "unpause", "Let halted processors run again.", r.Unpause, Instance, _C.TARGET,
        capability=Capability.PAUSE,
    ),
    _change(
        "suspend", "power", "suspend", "Save the memory to storage and stop.", r.Suspend, Instance, _C.TARGET,
        e.InsufficientResources, e.GuestRefused, capability=Capability.SUSPEND,
    ),
    _change(
        "resume", "power", "resume", "Restore the memory from storage and run.", r.Resume, Instance, _C.TARGET,
        e.InsufficientResources, capability=Capability.SUSPEND,
    ),
    _change(
        "attach_volume", "storage", "attach-volume", "Connect a volume to an instance.", r.AttachVolume, DiskFacts,
        _C.NAMED, e.AlreadyExists, e.InsufficientResources, e.ImageUnavailable, e.ImageRejected, e.GuestRefused,
        capability=Capability.VOLUMES,
    ),
    _change(
        "detach_volume", "storage", "detach-volume", "Take a volume from an instance.", r.DetachVolume, done.VolumeDetached,
        _C.TARGET, e.GuestRefused, capability=Capability.VOLUMES,
    ),
    _change(
        "extend_volume", "storage", "extend-volume", "Make an attached volume larger.", r.ExtendVolume, DiskFacts,
        _C.TARGET, e.InsufficientResources, capability=Capability.EXTEND_VOLUME,
    ),
    _change(
        "attach_interface", "network", "attach-interface", "Add a network interface to an instance.", r.AttachInterface,
        InterfaceFacts, _C.NAMED, e.AlreadyExists, e.InsufficientResources, e.GuestRefused, capability=Capability.HOT_INTERFACES,
    ),
    _change(
        "detach_interface", "network", "detach-interface", "Take a network interface from an instance.",
        r.DetachInterface, done.InterfaceDetached, _C.TARGET, e.GuestRefused, capability=Capability.HOT_INTERFACES,
    ),
    _change(
        "create_snapshot", "snapshots", "snapshot", "Keep an instance as it is now.", r.CreateSnapshot, Snapshot,
        _C.NAMED, e.InsufficientResources, e.GuestRefused, capability=Capability.SNAPSHOTS,
    ),
    _change(
        "revert_snapshot", "snapshots", "revert", "Bring an instance back to a snapshot.", r.RevertSnapshot, Instance,
        _C.MARKED, e.InsufficientResources, capability=Capability.SNAPSHOTS,
    ),
    _change(
        "delete_snapshot", "snapshots", "delete-snapshot", "Remove a snapshot.", r.DeleteSnapshot, done.SnapshotDeleted, _C.TARGET,
        e.InsufficientResources, capability=Capability.SNAPSHOTS, deadline_seconds=_LONG,
    ),
    _query(
        "list_snapshots", "snapshots", "snapshots", "Read the snapshots of an instance.", r.ListSnapshots, SnapshotList,
        e.NotFound, e.InvalidState, capability=Capability.SNAPSHOTS,
    ),
    _change(
        "capture_image", "images", "capture", "Make an image of an instance's root disk.", r.CaptureImage, CapturedImage,
        _C.NAMED, e.AlreadyExists, e.InsufficientResources, e.ImageUnavailable, e.ImageRejected, e.GuestRefused, deadline_seconds=_LONG,
    ),
    _change(
        "migrate", "migration", "migrate", "Move an instance to another node.", r.Migrate, Instance, _C.TARGET,
        e.AlreadyExists, e.InsufficientResources, e.GuestRefused, deadline_seconds=_LONG,
    ),
    _query(
        "get_console", "console", "console", "Say where an instance's screen or serial line can be reached.",
        r.GetConsole, Console, e.NotFound, e.InvalidState,
    ),
    _query(
        "get_console_output", "console", "console-log", "Read what the guest printed last.", r.GetConsoleOutput,
        ConsoleOutput, e.NotFound, e.InvalidState, capability=Capability.CONSOLE_OUTPUT,
    ),
    _change(
        "set_admin_password", "guest", "set-password", "Set the password of an account in the guest.",
        r.SetAdminPassword, done.PasswordSet, _C.MARKED, e.GuestRefused, capability=Capability.ADMIN_PASSWORD,
    ),
    _change(
        "send_nmi", "guest", "nmi", "Send a non-maskable interrupt to the guest.", r.SendNmi, done.NmiSent, _C.MARKED,
        capability=Capability.NMI,
    ),
    _query(
        "get_metrics", "metrics", "metrics", "Read what an instance used.", r.GetMetrics, InstanceMetrics, e.NotFound,
        e.InvalidState,
        capability=Capability.METRICS,
    ),
)  # fmt: skip
"""Every revision of every operation, in the order of the documentation."""

_BY_KEY: dict[tuple[str, int], Operation] = {(o.name, o.revision): o for o in DECLARED}


def find(name: str, revision: int = 1) -> Operation:
    """Return the declaration, or raise ContractMismatch that names what is known."""
    try:
        return _BY_KEY[name, revision]
    except KeyError:
        known = sorted(o.name for o in DECLARED)
        message = f"operation {name!r} revision {revision} is not part of this contract; known are: {', '.join(known)}"
        raise e.ContractMismatch(message, operation=name, revision=revision) from None


def on_lane(lane: Lane) -> Iterable[Operation]:
    """The operations of one lane, in declared order."""
    return (o for o in DECLARED if o.lane is lane)
