"""How a worker joins its cluster, says that it lives, and leaves: the messages between worker and manager.

Rules (DESIGN §5.4, §6.1):

1. A worker consumes nothing before the manager has admitted it.
2. A worker that the manager does not know (any more) is told so by the answer to its heartbeat and announces itself again.
3. An epoch other than the one the worker was admitted to means: finish, let go of the old partitions, announce again.
"""

from __future__ import annotations

import msgspec

from federation.contract.nodes import Description


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A worker asks to join; ``description`` is its driver's own, ``max_operations`` how many it runs side by side."""

    worker: str
    cluster: str
    description: Description
    host: str
    pid: int
    max_operations: int


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The manager's yes.

    ``pin`` is the contract release that the cluster speaks now.  ``lease_seconds`` and ``margin_seconds`` are the terms
    that the manager grants under; ``prefetch`` counts deliveries per partition.
    """

    worker: str
    cluster: str
    epoch: int
    partitions: int
    pin: str
    lease_seconds: float
    margin_seconds: float
    prefetch: int = 16
    heartbeat_seconds: float = 5.0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker lives; ``load`` holds figures by name (running, held, revoked, partitions, max_operations)."""

    worker: str
    cluster: str
    epoch: int
    draining: bool
    load: dict[str, float]


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the manager knows the worker as admitted, the epoch of now, and whether it is to drain and leave."""

    known: bool
    epoch: int
    drain: bool = False


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A worker leaves; ``reason`` is one sentence for people."""

    worker: str
    cluster: str
    reason: str
