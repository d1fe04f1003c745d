"""The topics of the doors that travel by remote call."""

from __future__ import annotations

MANAGER_TOPIC = "federation.manager"
"""What people ask a manager."""
ADMISSION_TOPIC = "federation.admission"
"""What workers ask a manager."""
START_TIMEOUT = 30.0
"""Seconds to reach a broker at start."""


MANAGERS_PREFIX = "federation.managers"
"""Beginning of the names of the managers' own queues, in front of the manager's id."""


def manager_prefix(manager: str) -> str:
    """Beginning of the names of one manager's own queues; no cluster or worker has a ``:`` in its name."""
    return f"{MANAGERS_PREFIX}:{manager}"


def worker_prefix(cluster: str, worker: str) -> str:
    """Beginning of the names of one worker's own queues for remote calls."""
    return f"federation.{cluster}.worker.{worker}"


def query_topic(cluster: str) -> str:
    """Where the workers of a cluster answer queries."""
    return f"federation.{cluster}.query"
