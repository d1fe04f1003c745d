"""The request of every operation.  A request that changes an instance names it first."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.captures import CaptureTarget
from federation.contract.consoles import ConsoleKind
from federation.contract.fields import (
    DiskBytes,
    ExistingName,
    InstanceId,
    InstanceName,
    MacAddress,
    Metadata,
    NodeName,
    PageToken,
    Password,
    PoolName,
    SnapshotId,
    SnapshotName,
    TimeoutSeconds,
    UserName,
)
from federation.contract.instances import Flavour, InstanceSpec, Interface
from federation.contract.since import since
from federation.contract.volumes import VolumeSource


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all requests: unknown fields are refused, never dropped."""


class InstanceRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request about one instance."""

    instance: InstanceId


class NodeRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request about one node."""

    node: NodeName


class Describe(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who are you?"""


class Probe(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Does your hypervisor answer?"""


class ListNodes(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes are there?"""


class SetNodeMaintenance(NodeRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a node out of service for new instances, or back; what runs there goes on."""

    enabled: bool


class Create(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an instance and start it unless ``start`` is false; ``spec.node`` is set by then."""

    spec: InstanceSpec
    start: bool = True


class Destroy(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop and remove an instance with its disks; destroying what is not there succeeds."""


class Adopt(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take over a machine that exists, by the id under which list_instances shows it, without restarting it.

    Adopting what is adopted under that name succeeds.  ``name`` is its name from now on; what the hypervisor calls it stays.
    """

    name: InstanceName
    node: NodeName
    metadata: Metadata = {}


class Resize(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change processors and memory of a stopped instance, or of a running one with ``live``."""

    flavour: Flavour
    live: Annotated[bool, since("1.1")] = False
    """Also while it runs; needs the capability ``hot_resize``.

    A running instance can only grow: less of anything is ``invalid_state``, and so is a guest that cannot take more.
    """


class GetInstance(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How is it now?"""


class ListInstances(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which instances are there?  Ordered by id, continued from where a page said ``next``."""

    node: NodeName | None = None
    after: PageToken | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200
    foreign: bool = False
    """Whether machines that are not ours are listed too."""


class PowerOn(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start a stopped instance, or bring a suspended one back; a running one stays as it is."""


class PowerOffMode(enum.StrEnum):
    """How to power off."""

    GRACEFUL = "graceful"
    """Ask the guest, wait ``timeout_seconds``, then fail with timed_out."""
    HARD = "hard"
    """Take the power away."""


class PowerOff(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop an instance; a stopped one stays as it is."""

    mode: PowerOffMode = PowerOffMode.HARD
    timeout_seconds: TimeoutSeconds = 60.0


class RebootMode(enum.StrEnum):
    """How to reboot."""

    SOFT = "soft"
    HARD = "hard"


class Reboot(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart a running instance."""

    mode: RebootMode = RebootMode.HARD
    timeout_seconds: TimeoutSeconds = 60.0


class Pause(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Halt the processors, keep the memory."""


class Unpause(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let the processors run again."""


class Suspend(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Save the memory to storage and stop."""


class Resume(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restore the memory and run."""


class GetConsoleOutput(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What did the guest print last?"""

    max_bytes: Annotated[int, Meta(ge=1, le=1 << 18)] = 65536
    """What cannot be decoded becomes three bytes each, and the whole must fit into one message."""


class AttachVolume(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connect a volume to an instance, running or stopped; one that is connected to it stays so.

    A volume that another instance uses is ``conflict``.
    """

    volume: VolumeSource
    read_only: bool = False


class DetachVolume(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a volume from an instance; one that is not connected stays so.

    A running guest is asked to let go; if it has not after ``timeout_seconds``, the operation fails with ``timed_out``.
    """

    volume: ExistingName
    pool: PoolName = ""
    delete: bool = False
    """Remove the volume and what it holds afterwards; needs the capability ``new_volumes``.

    One that is not connected is removed as well, unless another instance uses it (``conflict``).
    """
    timeout_seconds: TimeoutSeconds = 60.0


class ExtendVolume(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an attached volume larger; a running guest sees the new size.  Smaller than it is: ``invalid_request``."""

    volume: ExistingName
    pool: PoolName = ""
    size_bytes: DiskBytes


class AttachInterface(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Add a network interface to an instance, running or stopped.

    Without ``mac`` the driver derives one from the operation's id.  An interface with that MAC on that network stays; on
    another network it is ``already_exists``.
    """

    interface: Interface


class DetachInterface(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take the interface with that MAC from an instance; one that is not there stays away."""

    mac: MacAddress
    timeout_seconds: TimeoutSeconds = 60.0


class CreateSnapshot(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the instance's disks as they are now."""

    name: SnapshotName
    memory: bool = False
    """Keep the memory of a running instance, too; needs the capability ``memory_snapshots``."""
    quiesce: bool = False
    """Freeze the guest's file systems meanwhile; needs the capability ``quiesced_snapshots``, and an agent in the guest."""


class RevertSnapshot(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bring the instance back to a snapshot; what changed since is lost.

    It ends in the snapshot's power state: what a snapshot without memory brings back is stopped.  A repeat of an operation
    that has reverted does not revert again: what the guest did since stays.
    """

    snapshot: SnapshotId


class DeleteSnapshot(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remove a snapshot; the instance and the other snapshots stay as they are.  One that is not there stays away."""

    snapshot: SnapshotId


class ListSnapshots(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which snapshots are there?"""


class CaptureImage(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an image of the root disk of a stopped instance."""

    target: CaptureTarget


class MigrateMode(enum.StrEnum):
    """How to migrate."""

    LIVE = "live"
    """A running instance goes on running; a stopped one is ``invalid_state``."""
    COLD = "cold"
    """A stopped instance stays stopped; a running one is ``invalid_state``."""


class Migrate(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Move an instance to another node of its cluster, with its disks where the nodes share no storage.

    One that is there stays there.  Whatever goes wrong, it is on exactly one of the two nodes afterwards.
    """

    node: NodeName
    mode: MigrateMode = MigrateMode.LIVE


class GetConsole(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where can its screen or serial line be reached?"""

    kind: ConsoleKind


class SetAdminPassword(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set the password of an account in a running guest, by the agent in it."""

    password: Password
    user: UserName | None = None
    """None means the system's own administrator (root, Administrator)."""


class SendNmi(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send a non-maskable interrupt to a running guest, for a crash dump."""


class GetMetrics(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What did it use?"""
