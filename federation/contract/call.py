"""What the worker hands to a driver with every operation."""

from __future__ import annotations

from typing import Protocol


class Revoked(BaseException):
    """The worker has lost its leave to change anything for this operation: stop, change nothing more, undo nothing.

    It derives from BaseException so that a driver's ``except Exception`` cannot swallow it.
    """


class Call(Protocol):
    """One execution of one operation."""

    @property
    def operation(self) -> str:
        """The operation's id (UUID); names on the hypervisor are derived from it."""

    @property
    def attempt(self) -> int:
        """Counts from 1.  Above 1 an earlier attempt may have done some or all of the work."""

    @property
    def recovering(self) -> bool:
        """Whether an earlier attempt may have acted: look at what is there before acting."""

    @property
    def cluster(self) -> str:
        """The cluster that the operation was sent to."""

    def guard(self) -> None:
        """Call this right before every call that changes something on the hypervisor.

        Waits until enough of the lease is left; raises Revoked when the leave is gone, and Cancelled (of the
        catalogue) once when the operation was cancelled: the driver then undoes what it did, guarding again, and lets
        Cancelled out.
        """

    def progress(self, percent: float | None, stage: str) -> None:
        """Say how far the operation has come (0 to 100, or None) and what it does now."""

    def sleep(self, seconds: float) -> None:
        """Wait between two looks at the hypervisor; ends early with Revoked or Cancelled, as guard does."""

    def remaining(self) -> float | None:
        """Seconds until the deadline, None when there is none."""
