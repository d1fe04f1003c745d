"""The topics of the doors that travel by remote call."""

from __future__ import annotations

MANAGER_TOPIC = "federation.manager"
"""What people ask a manager."""
ADMISSION_TOPIC = "federation.admission"
"""What workers ask a manager."""
START_TIMEOUT = 30.0
"""Seconds to reach a broker at start."""


def query_topic(cluster: str) -> str:
    """Where the workers of a cluster answer queries."""
    return f"federation.{cluster}.query"
