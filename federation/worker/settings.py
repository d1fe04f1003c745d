"""What a worker is told when it is made."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Durations are seconds.

    ``worker`` is an id, unique among all workers; ``max_operations`` and ``max_queries`` bound the driver's threads.
    ``drain_timeout`` is how long running operations may take to finish once the worker is asked to leave;
    ``stuck_after`` how long revoked calls may take every slot before the worker gives itself up;
    ``report_timeout`` how long a broker may take to confirm an outcome before it is sent again;
    ``close_timeout`` bounds each step of closing.  ``max_outcome_bytes`` stays below what the bus carries
    (1 MiB) by more than the rest of a report takes: one that cannot be sent would be tried for ever.
    ``confined`` says that its broker user may declare nothing but its own queues.
    """

    worker: str
    cluster: str
    max_operations: int = 16
    max_queries: int = 8
    query_timeout: float = 30.0
    drain_timeout: float = 60.0
    stuck_after: float = 60.0
    report_timeout: float = 30.0
    progress_every: float = 0.5
    close_timeout: float = 5.0
    max_outcome_bytes: int = 960 << 10
    confined: bool = False
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        """Refuse numbers under which nothing could ever run."""
        for name in (
            "max_operations",
            "max_queries",
            "query_timeout",
            "drain_timeout",
            "stuck_after",
            "report_timeout",
            "progress_every",
            "close_timeout",
            "max_outcome_bytes",
        ):
            if not getattr(self, name) > 0:
                message = f"{name} is {getattr(self, name)}, expected more than 0"
                raise ValueError(message)
