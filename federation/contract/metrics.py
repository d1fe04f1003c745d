"""Metrics: what an instance used.  Every counter counts from the start of the machine and may start again at 0."""

from __future__ import annotations

import msgspec

from federation.contract.fields import Instant


class DiskMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one disk; ``name`` as DiskFacts has it."""

    name: str
    read_bytes: int | None = None
    written_bytes: int | None = None
    read_requests: int | None = None
    write_requests: int | None = None


class InterfaceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one interface, as the guest sees the directions."""

    mac: str
    received_bytes: int | None = None
    sent_bytes: int | None = None
    received_packets: int | None = None
    sent_packets: int | None = None


class InstanceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one instance; None where the hypervisor does not say."""

    at: Instant
    """When they were read."""
    cpu_seconds: float | None = None
    """Processor time used, over all virtual processors."""
    cpu_fraction: float | None = None
    """Share of its processors that it uses now, 0 to 1, for hypervisors that count no time."""
    memory_bytes_used: int | None = None
    """Memory of the host that the instance takes."""
    disks: tuple[DiskMetrics, ...] = ()
    interfaces: tuple[InterfaceMetrics, ...] = ()
