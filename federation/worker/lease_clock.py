"""The clock that leases are counted on."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended, where the system has such a clock (Linux); CLOCK_MONOTONIC stands still then, and
a worker that wakes up would take a dead lease for a live one."""


def lease_clock() -> float:
    """Seconds since some fixed point; never set back."""
    return time.clock_gettime(_CLOCK)
