"""The manager's two clocks: wall time for people and deadlines, a stamped monotonic clock for leases."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Protocol

from federation.protocol.lease import Stamp

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the manager reads time from."""

    def stamp(self) -> Stamp:
        """A reading of the monotonic clock, with its name."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""


class SystemClock:
    """The machine's clocks.

    The monotonic one is the same for all processes of one boot, so it is named by the boot id; where there is none it
    is named for this process alone, and leases are waited out in full after a restart.
    """

    def __init__(self) -> None:
        try:
            self._name = _BOOT_ID.read_text().strip()
        except OSError:
            self._name = str(uuid.uuid4())

    def stamp(self) -> Stamp:
        """A reading of CLOCK_MONOTONIC."""
        return Stamp(self._name, time.monotonic())

    def wall(self) -> float:
        """The wall clock."""
        return time.time()
