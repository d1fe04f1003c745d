"""Every operation, declared once.  Worker, manager, command line and documentation are driven from this table."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from federation.contract import errors as e
from federation.contract import requests as r
from federation.contract.capabilities import Capability
from federation.contract.instances import ConsoleOutput, Instance, InstancePage
from federation.contract.nodes import Description, NodeList, ProbeReport


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
class Operation:
    """The declaration of one revision of one operation.

    ``verb`` is the word of the command line and of the API; ``default_deadline_seconds`` runs from acceptance.
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
    capability: Capability | None = None, ordering: Ordering = Ordering.INSTANCE,
) -> Operation:  # fmt: skip
    return Operation(
        name=name, group=group, verb=verb, summary=summary, request=request, result=result,
        lane=Lane.ORDERED, ordering=ordering, convergence=convergence,
        errors=_codes(*CHANGE_ERRORS, *more), capability=capability,
    )  # fmt: skip


_C = Convergence
DECLARED: tuple[Operation, ...] = (
    _query("describe", "identity", "describe", "Say who the driver is and what it can do.", r.Describe, Description),
    _query("probe", "identity", "probe", "Say whether the hypervisor answers.", r.Probe, ProbeReport),
    _query("list_nodes", "nodes", "list", "List the nodes with their inventory, usage and health.", r.ListNodes, NodeList),
    _change(
        "create", "instances", "create", "Make an instance and start it.", r.Create, Instance, _C.NAMED,
        e.AlreadyExists, e.InsufficientResources, e.ImageUnavailable, e.ImageRejected,
    ),
    _change("destroy", "instances", "delete", "Stop and remove an instance with its disks.", r.Destroy, r.Empty, _C.TARGET),
    _change(
        "resize", "instances", "resize", "Change processors and memory of a stopped instance.", r.Resize, Instance,
        _C.TARGET, e.InsufficientResources, capability=Capability.RESIZE,
    ),
    _query("get_instance", "instances", "get", "Read one instance.", r.GetInstance, Instance, e.NotFound),
    _query("list_instances", "instances", "list", "Read the instances, page by page.", r.ListInstances, InstancePage),
    _change(
        "power_on", "power", "start", "Start an instance.", r.PowerOn, Instance, _C.TARGET, e.InsufficientResources
    ),
    _change("power_off", "power", "stop", "Stop an instance, gracefully or hard.", r.PowerOff, Instance, _C.TARGET),
    _change(
        "reboot", "power", "reboot", "Restart a running instance, soft or hard.", r.Reboot, Instance, _C.MARKED,
        capability=Capability.REBOOT,
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
        e.InsufficientResources, capability=Capability.SUSPEND,
    ),
    _change(
        "resume", "power", "resume", "Restore the memory from storage and run.", r.Resume, Instance, _C.TARGET,
        e.InsufficientResources, capability=Capability.SUSPEND,
    ),
    _query(
        "get_console_output", "console", "console-log", "Read what the guest printed last.", r.GetConsoleOutput,
        ConsoleOutput, e.NotFound, e.InvalidState, capability=Capability.CONSOLE_OUTPUT,
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
