"""Leases and the clocks they are counted on.

Rules (DESIGN §6.4):

1. A worker counts its lease on its own monotonic clock, from the first sending of the question that was answered.
2. The manager counts the wait of a newer attempt from its last answer to the older one, plus the margin.
3. Readings of two different monotonic clocks cannot be compared: then the whole lease plus the margin is waited.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Stamp(NamedTuple):
    """A reading, in seconds, of the monotonic clock named ``clock`` (one name for each boot of each machine)."""

    clock: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """The numbers of the lease, the same for manager and worker; all in seconds."""

    lease: float = 6.0
    margin: float = 1.0

    def __post_init__(self) -> None:
        """Refuse terms under which no guard could ever pass."""
        if not 0 < self.margin < self.lease:
            message = f"margin is {self.margin} s, expected more than 0 and less than the lease of {self.lease} s"
            raise ValueError(message)

    @property
    def renew_every(self) -> float:
        """A longer operation renews after every third of its lease."""
        return self.lease / 3


def remaining_wait(last_answer: Stamp | None, now: Stamp, terms: LeaseTerms) -> float:
    """How long a newer attempt must wait until the older one's lease has surely ended, in seconds."""
    whole = terms.lease + terms.margin
    if last_answer is None or last_answer.clock != now.clock:
        return whole
    return min(whole, max(0.0, last_answer.seconds + whole - now.seconds))


class Leave(enum.Enum):
    """What a guard may do now."""

    GO = "go"
    WAIT = "wait"
    CANCEL = "cancel"
    REVOKED = "revoked"


@dataclass(slots=True)
class Lease:
    """A worker's leave for one attempt, on the worker's monotonic clock."""

    terms: LeaseTerms
    ends: float
    revoked: bool = False
    cancel_requested: bool = False
    cancel_told: bool = False

    def leave(self, now: float) -> Leave:
        """What a changing call may do at this instant; asking for a cancelled lease tells of it once."""
        if self.revoked:
            return Leave.REVOKED
        if self.cancel_requested and not self.cancel_told:
            return Leave.CANCEL
        return Leave.GO if self.ends - now >= self.terms.margin else Leave.WAIT

    def extend(self, first_sent: float, lease_seconds: float | None = None) -> None:
        """A question first sent at ``first_sent`` was answered in our favour; a lease never gets shorter.

        ``lease_seconds`` is what the answer says (None: the terms').  It counts, and not the worker's own terms: the
        manager may run with others by now than when it admitted the worker, and waits only for what it has promised.
        """
        self.ends = max(self.ends, first_sent + (self.terms.lease if lease_seconds is None else lease_seconds))
