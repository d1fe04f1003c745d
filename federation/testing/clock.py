"""Clocks: the system's, and one that moves only when a test says so."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time and waits; seconds everywhere."""

    def monotonic(self) -> float:
        """Seconds that never go back; the origin means nothing."""

    def wall(self) -> float:
        """Seconds since the Unix epoch (UTC)."""

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""


class SystemClock:
    """The clock of this machine; on Linux ``monotonic`` is the same for all its processes."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that stands still; ``sleep`` and ``advance`` move it and return at once.

    ``monotonic`` starts at ``start`` seconds, ``wall`` at ``epoch`` seconds since the Unix epoch.  One thread moves it.
    """

    def __init__(self, start: float = 1000.0, epoch: float = 1_700_000_000.0) -> None:
        self._now = start
        self._offset = epoch - start
        self.slept: list[float] = []
        """Every wait that was asked for, in seconds."""

    def monotonic(self) -> float:
        """Where ``advance`` and ``sleep`` have brought it."""
        return self._now

    def wall(self) -> float:
        """Moves with ``monotonic``, and by ``step_wall``."""
        return self._now + self._offset

    def sleep(self, seconds: float) -> None:
        """Move on by ``seconds`` and remember that somebody waited."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move on; ValueError when asked to go back."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self._now += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP would; ``monotonic`` stays."""
        self._offset += seconds
