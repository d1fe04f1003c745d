"""A call without a bus: runs a driver's method and lets a test crash, cancel or revoke it at every guard."""

from __future__ import annotations

import uuid
from typing import Self

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled
from federation.testing.clock import Clock, ManualClock


class SimulatedCrash(BaseException):
    """The process died here, as far as the driver can tell.

    It derives from BaseException so that no ``except Exception`` of a driver outlives its own death.
    """


class RecordedCall:
    """Implements :class:`federation.contract.call.Call` and records what the driver does with it.

    ``crash_at``, ``cancel_at`` and ``revoke_at`` name the guard, counted from 1, at which it happens.  After a crash or a
    revocation every further guard and sleep raises the same again; Cancelled is raised once, as the contract says.
    Waiting goes through ``clock``; without one it is a manual clock, so nothing really waits.
    """

    def __init__(
        self,
        operation: str | None = None,
        *,
        attempt: int = 1,
        recovering: bool | None = None,
        cluster: str = "test",
        clock: Clock | None = None,
        deadline_seconds: float | None = None,
        crash_at: int | None = None,
        cancel_at: int | None = None,
        revoke_at: int | None = None,
    ) -> None:
        self.operation = operation or str(uuid.uuid4())
        self.attempt = attempt
        self.recovering = attempt > 1 if recovering is None else recovering
        self.cluster = cluster
        self.clock: Clock = clock or ManualClock()
        self.guards = 0
        """How often the driver has asked for leave."""
        self.progressed: list[tuple[float | None, str]] = []
        """Every progress report, in order."""
        self.slept: list[float] = []
        """Every wait between two looks, in seconds."""
        self._deadline = None if deadline_seconds is None else self.clock.monotonic() + deadline_seconds
        self._crash_at = crash_at
        self._cancel_at = cancel_at
        self._revoke_at = revoke_at
        self._crashed = False
        self._revoked = False
        self._cancelling = False

    def again(self, *, crash_at: int | None = None, cancel_at: int | None = None, revoke_at: int | None = None) -> Self:
        """The next attempt of the same operation, recovering, on the same clock."""
        return type(self)(
            self.operation,
            attempt=self.attempt + 1,
            recovering=True,
            cluster=self.cluster,
            clock=self.clock,
            crash_at=crash_at,
            cancel_at=cancel_at,
            revoke_at=revoke_at,
        )

    def cancel(self) -> None:
        """Let the next guard or sleep raise Cancelled, once."""
        self._cancelling = True

    def revoke(self) -> None:
        """Let every further guard and sleep raise Revoked."""
        self._revoked = True

    def guard(self) -> None:
        """Count; then crash, revoke or cancel if it is time."""
        self.guards += 1
        self._crashed = self._crashed or self.guards == self._crash_at
        self._revoked = self._revoked or self.guards == self._revoke_at
        self._cancelling = self._cancelling or self.guards == self._cancel_at
        self._check()

    def progress(self, percent: float | None, stage: str) -> None:
        """Record; ValueError outside of 0 to 100."""
        if percent is not None and not 0 <= percent <= 100:
            raise ValueError(f"progress is {percent}, expected 0 to 100 or None")
        self.progressed.append((percent, stage))

    def sleep(self, seconds: float) -> None:
        """Wait by the clock; raises as guard does, before and after."""
        self._check()
        self.slept.append(seconds)
        self.clock.sleep(seconds)
        self._check()

    def remaining(self) -> float | None:
        """Seconds of the deadline that are left, by the clock."""
        return None if self._deadline is None else self._deadline - self.clock.monotonic()

    def _check(self) -> None:
        if self._crashed:
            raise SimulatedCrash(f"crashed at guard {self.guards}")
        if self._revoked:
            raise Revoked(f"revoked at guard {self.guards}")
        if self._cancelling:
            self._cancelling = False
            raise Cancelled("the operation was cancelled", operation=self.operation)
