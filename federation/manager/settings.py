"""The numbers that a manager runs by."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from federation.protocol.answer_table import Limits
from federation.protocol.pinning import MANAGED, Range


def _default_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerSettings:
    """All durations in seconds.

    ``sweep_after`` is how long an operation may stay unsettled without a live attempt before it is published again;
    ``max_backlog`` bounds what is accepted and not yet given to the broker; ``max_batch`` results share a transaction;
    ``keep_days`` is how long settled operations are kept, ``keep_operations`` how many of each cluster, and
    ``audit_days`` how long the audit log is kept; 0: without end.  ``releases`` are the contract releases that it serves, lowest and highest; ``trust_users`` lets every broker user
    speak for every worker.
    """

    id: str = field(default_factory=_default_id)
    limits: Limits = field(default_factory=Limits)
    claim_ttl: float = 10.0
    outbox_poll: float = 0.25
    confirm_flush: float = 0.05
    sweep_every: float = 5.0
    housekeeping_every: float = 1.0
    keep_days: float = 0.0
    keep_operations: int = 0
    audit_days: float = 0.0
    retention_every: float = 30.0
    retention_batch: int = 500
    sweep_after: float = 60.0
    worker_timeout: float = 30.0
    heartbeat_every: float = 5.0
    nodes_every: float = 30.0
    query_timeout: float = 10.0
    publish_retry: float = 0.5
    max_in_flight: int = 2000
    max_backlog: int = 100_000
    max_batch: int = 128
    prefetch: int = 16
    default_partitions: int = 32
    releases: Range = MANAGED
    trust_users: bool = False
