"""The request of every operation.  A request that changes an instance names it first."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.fields import InstanceId, NodeName, TimeoutSeconds
from federation.contract.instances import Flavour, InstanceSpec


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all requests: unknown fields are refused, never dropped."""


class InstanceRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request about one instance."""

    instance: InstanceId


class Empty(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to say."""


class Describe(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who are you?"""


class Probe(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Does your hypervisor answer?"""


class ListNodes(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes are there?"""


class Create(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make an instance and start it unless ``start`` is false; ``spec.node`` is set by then."""

    spec: InstanceSpec
    start: bool = True


class Destroy(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop and remove an instance with its disks; destroying what is not there succeeds."""


class Resize(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change processors and memory of a stopped instance."""

    flavour: Flavour


class GetInstance(InstanceRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How is it now?"""


class ListInstances(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which instances are there?  Ordered by id, from behind ``after``."""

    node: NodeName | None = None
    after: InstanceId | None = None
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

    max_bytes: Annotated[int, Meta(ge=1, le=1 << 20)] = 65536
