"""The simulated driver's section of a worker's configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.capabilities import Capabilities, Capability, Limits
from federation.testing.faults import Fault
from federation.testing.hypervisor.profiles import PROFILES, Delay, HypervisorKind, Profile


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inventory of one node."""

    name: str
    vcpus: Annotated[int, Meta(ge=1)] = 64
    memory_bytes: Annotated[int, Meta(ge=1)] = 256 << 30
    storage_bytes: Annotated[int, Meta(ge=1)] = 10 << 40


class SimulatedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set.

    ``state_directory`` is where the hypervisor lives: workers of one cluster name the same, workers of two clusters
    never do.  ``nothing`` makes a driver that only asks for leave and answers, without any state: for benchmarks of
    what is around it; ``state_directory`` is then not needed.  ``pace`` multiplies the typical delays of the kind (0: none,
    1: as in life); ``delays`` overrides single kinds of call, in seconds, whatever the pace; ``seed`` makes them the same in
    every run.  ``without`` takes capabilities away.  ``images`` lists URLs with their true checksum; every other URL is
    taken as it comes, except that ``missing://`` cannot be read and ``corrupt://`` never matches its checksum, in templates
    and volumes alike.  ``call_wait_seconds`` bounds the wait for a call of an earlier attempt that is still under way.
    """

    state_directory: str = ""
    kind: HypervisorKind = HypervisorKind.KVM
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

    @property
    def profile(self) -> Profile:
        """What the kind brings with it."""
        return PROFILES[self.kind]

    @property
    def capabilities(self) -> Capabilities:
        """The kind's flags without those taken away."""
        return Capabilities(flags=self.profile.flags - frozenset(self.without), limits=self.limits)

    def inventory(self) -> tuple[NodeSettings, ...]:
        """The nodes, or two of the usual size named after the kind."""
        if self.nodes:
            return self.nodes
        return tuple(NodeSettings(name=f"{self.profile.node_prefix}-{number}") for number in (1, 2))
