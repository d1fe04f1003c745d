"""The simulated driver's section of a worker's configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.capabilities import Capabilities, Capability, Limits
from federation.contract.fields import (
    DiskBytes,
    InstanceId,
    MemoryBytes,
    PoolName,
    ShortText,
    StoredName,
    VcpuCount,
)
from federation.contract.instances import ImageFormat, PowerState
from federation.testing.faults import Fault
from federation.testing.hypervisor.profiles import PROFILES, Delay, HypervisorKind, Profile


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inventory of one node."""

    name: str
    vcpus: Annotated[int, Meta(ge=1)] = 64
    memory_bytes: Annotated[int, Meta(ge=1)] = 256 << 30
    storage_bytes: Annotated[int, Meta(ge=1)] = 10 << 40
    lacks: tuple[Capability, ...] = ()
    addresses: tuple[str, ...] = ()


class StoredSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume or template that is there before any worker comes; ``pool`` "" and ``format`` None mean the usual ones."""

    name: StoredName
    size_bytes: DiskBytes = 1 << 30
    pool: PoolName = ""
    format: ImageFormat | None = None
    content: str = ""


class ForeignSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that is not ours and is there before any worker comes; ``node`` "" means the first one."""

    id: InstanceId
    name: str
    node: str = ""
    power_state: PowerState = PowerState.RUNNING
    vcpus: VcpuCount = 1
    memory_bytes: MemoryBytes = 1 << 30
    disks: tuple[DiskBytes, ...] = ()
    networks: tuple[ShortText, ...] = ()


class SimulatedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set.

    ``state_directory`` is where the hypervisor lives: workers of one cluster name the same, workers of two clusters
    never do.  ``nothing`` makes a driver that only asks for leave and answers, without any state: for benchmarks of
    what is around it; ``state_directory`` is then not needed.  ``pace`` multiplies the typical delays of the kind (0: none,
    1: as in life); ``delays`` overrides single kinds of call, in seconds, whatever the pace; ``seed`` makes them the same in
    every run.  ``without`` takes capabilities away.  ``images`` lists URLs with their true checksum; every other URL is
    taken as it comes, except that ``missing://`` cannot be read and ``corrupt://`` never matches its checksum.
    ``call_wait_seconds`` bounds the wait for a call of an earlier attempt that is still under way.

    ``pools`` are the names of the shared storage's pools, the first is the usual one; they hold ``pool_bytes`` together.
    ``volumes``, ``templates`` and ``foreign`` machines are put there once, when the first worker comes.  ``agents`` says
    whether an agent answers in the guests (the extension ``agent`` of a create overrides it).  ``upload_directories`` are
    the folders into which capture_image may write, and from which ``file:`` images are really read.
    """

    state_directory: str = ""
    kind: HypervisorKind = HypervisorKind.GENERIC
    nodes: tuple[NodeSettings, ...] = ()
    without: tuple[Capability, ...] = ()
    limits: Limits = Limits()
    pace: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    delays: dict[str, Delay] = {}
    seed: int = 0
    images: dict[str, str] = {}
    faults: tuple[Fault, ...] = ()
    nothing: bool = False
    call_wait_seconds: Annotated[float, Meta(gt=0, le=86400)] = 60.0
    pools: Annotated[tuple[PoolName, ...], Meta(min_length=1)] = ("default",)
    pool_bytes: Annotated[int, Meta(ge=1)] = 100 << 40
    volumes: tuple[StoredSettings, ...] = ()
    templates: tuple[StoredSettings, ...] = ()
    foreign: tuple[ForeignSettings, ...] = ()
    agents: bool = True
    upload_directories: tuple[str, ...] = ()

    @property
    def profile(self) -> Profile:
        """What the kind brings with it."""
        return PROFILES[self.kind]

    @property
    def capabilities(self) -> Capabilities:
        """The kind's flags without those taken away."""
        return Capabilities(
            flags=self.profile.flags - frozenset(self.without),
            limits=self.limits,
            image_formats=frozenset(str(one) for one in self.profile.formats),
        )

    def format_of(self, asked: ImageFormat | None) -> ImageFormat:
        """The format asked for, or the kind's own."""
        return asked or self.profile.formats[0]

    def lacks(self) -> dict[str, frozenset[Capability]]:
        """Flags that single nodes do not have, by node."""
        return {node.name: frozenset(node.lacks) for node in self.inventory() if node.lacks}

    def inventory(self) -> tuple[NodeSettings, ...]:
        """The nodes, or two of the usual size named after the kind."""
        if self.nodes:
            return self.nodes
        return tuple(NodeSettings(name=f"{self.profile.node_prefix}-{number}") for number in (1, 2))
