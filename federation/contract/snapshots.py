"""Snapshots: an instance as it was."""

from __future__ import annotations

import msgspec

from federation.contract.fields import Instant
from federation.contract.instances import PowerState


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as the hypervisor shows it; ``owned`` is false for those that others made (never touched).

    ``id`` is the id of the operation that made it, for foreign ones the hypervisor's own; ``parent`` is the snapshot
    that it continues, None for the first; ``current`` marks the one that the instance runs on.
    """

    id: str
    name: str
    created_at: Instant
    """By the hypervisor's clock."""
    power_state: PowerState
    """What reverting ends in: ``running`` or ``paused`` for one with memory, else ``stopped``."""
    parent: str | None = None
    current: bool = False
    owned: bool = True


class SnapshotList(msgspec.Struct, frozen=True, kw_only=True):
    """All snapshots of one instance, oldest first."""

    snapshots: tuple[Snapshot, ...]
