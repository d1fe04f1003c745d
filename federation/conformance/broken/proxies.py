"""Calls that a broken driver puts between itself and the worker's call."""

from __future__ import annotations

from federation.contract.call import Call


class PassedOn:
    """Implements the call by another one; a broken driver overrides what it gets wrong."""

    def __init__(self, call: Call) -> None:
        self.call = call

    @property
    def operation(self) -> str:
        """The operation's id."""
        return self.call.operation

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self.call.attempt

    @property
    def recovering(self) -> bool:
        """Whether an earlier attempt may have acted."""
        return self.call.recovering

    @property
    def cluster(self) -> str:
        """The cluster."""
        return self.call.cluster

    def guard(self) -> None:
        """Ask for leave."""
        self.call.guard()

    def progress(self, percent: float | None, stage: str) -> None:
        """Say how far it is."""
        self.call.progress(percent, stage)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.call.sleep(seconds)

    def remaining(self) -> float | None:
        """Seconds until the deadline."""
        return self.call.remaining()
