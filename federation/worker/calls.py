"""What a driver is handed: one execution of one operation, or of one query.

Rules (DESIGN §6.4, contract ``Call``):

1. A guard lets a change through only while at least the margin of the lease is left; it waits for a renewal otherwise.
2. A revoked call changes nothing any more: every guard and every sleep raises Revoked, also while it waits.
3. A cancelled call, and one whose deadline has passed, is interrupted once, so that the driver can undo what it did
   behind further guards; whichever of the two comes first is the only one.
4. Progress is never in the driver's way: the latest is kept, and sent at a bounded rate by the worker.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, DriverBug, TimedOut
from federation.protocol.lease import Leave
from federation.protocol.worker_actions import StartCall
from federation.worker.lease_clock import lease_clock
from federation.worker.ports import CallTrace

LONGEST_STAGE = 255
_WHOLE = 100.0
_LONGEST_WAIT = 3600.0
"""Seconds; a condition cannot wait as long as a float can say."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a call has come (0 to 100, or None) and what it does."""

    percent: float | None
    stage: str


class RunningCall:
    """A :class:`federation.contract.call.Call` under a lease.

    ``clock`` is the monotonic clock that the lease is counted on; ``wall`` the one that deadlines are written in;
    ``on_progress`` is called, from the driver's thread, when there is news that nobody has taken yet.
    """

    def __init__(
        self,
        start: StartCall,
        on_progress: Callable[[], None],
        *,
        clock: Callable[[], float] = lease_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.command = start.held.command
        self.started = clock()
        self._attempt = start.attempt
        self._lease = start.lease
        self._on_progress = on_progress
        self._clock = clock
        deadline = self.command.deadline
        self._ends = None if deadline is None else self.started + deadline - wall()
        self._changed = threading.Condition()
        self._step: Step | None = None
        self._announced = False
        self.guards_passed = 0
        self.guards_refused = 0
        self.guards_waited = 0
        self.least_margin: float | None = None
        self.traced: CallTrace | None = None

    # What the driver sees

    @property
    def operation(self) -> str:
        """The operation's id."""
        return self.command.operation

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self._attempt

    @property
    def recovering(self) -> bool:
        """Whether an earlier attempt may have acted."""
        return self._attempt > 1

    @property
    def cluster(self) -> str:
        """The cluster that the operation was sent to."""
        return self.command.cluster

    def guard(self) -> None:
        """Return when a change may be made now; raise Revoked, or once Cancelled or TimedOut (rules 1 to 3)."""
        self._wait_for_leave()
        if self.traced is not None:
            self.traced.changing()

    def _wait_for_leave(self) -> None:
        waited = False
        with self._changed:
            while True:
                now = self._clock()
                if self._interrupted(now) is Leave.GO:
                    self._passed(self._lease.ends - now, waited=waited)
                    return
                waited = True
                self._changed.wait(self._until_deadline(now))

    def sleep(self, seconds: float) -> None:
        """Wait, unless revoked, cancelled or out of time meanwhile."""
        if self.traced is not None:
            self.traced.told()
        with self._changed:
            now = self._clock()
            ends = now + seconds
            while True:
                self._interrupted(now)
                if not now < ends:
                    return
                self._changed.wait(min(ends - now, self._until_deadline(now)))
                now = self._clock()

    def progress(self, percent: float | None, stage: str) -> None:
        """Keep the latest step for whoever sends it."""
        if self.traced is not None:
            self.traced.told()
        bounded = None if percent is None or math.isnan(percent) else min(_WHOLE, max(0.0, float(percent)))
        step = Step(bounded, str(stage).encode("utf-8", "replace").decode()[:LONGEST_STAGE])
        with self._changed:
            self._step = step
            first, self._announced = not self._announced, True
        if first:
            self._on_progress()

    def remaining(self) -> float | None:
        """Seconds until the deadline, not below 0; None when there is none."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())

    # What the worker does with it

    @property
    def revoked(self) -> bool:
        """Whether the leave is gone for good."""
        return self._lease.revoked

    def lease_changed(self) -> None:
        """Wake whoever waits in a guard or a sleep: the lease was renewed, revoked or cancelled."""
        with self._changed:
            self._changed.notify_all()

    def revoke(self) -> None:
        """Take the leave away at once, when the thread that decides cannot."""
        self._lease.revoked = True
        self.lease_changed()

    def take_step(self) -> Step | None:
        """The latest step that was not taken yet; the next one is announced again."""
        with self._changed:
            step, self._step, self._announced = self._step, None, False
            return step

    # How

    def _interrupted(self, now: float) -> Leave:
        leave = self._lease.leave(now)
        if leave is Leave.REVOKED:
            self.guards_refused += 1
            raise Revoked
        if leave is Leave.CANCEL:
            self.guards_refused += 1
            self._lease.cancel_told = True
            message = "the operation was cancelled while it ran"
            raise Cancelled(message, operation=self.operation)
        if self._ends is not None and now >= self._ends and not self._lease.cancel_told:
            self.guards_refused += 1
            self._lease.cancel_told = True
            message = "the deadline passed while the operation ran"
            raise TimedOut(message, operation=self.operation)
        return leave

    def _until_deadline(self, now: float) -> float:
        if self._ends is None or self._lease.cancel_told:
            return _LONGEST_WAIT
        return min(_LONGEST_WAIT, max(0.0, self._ends - now))

    def _passed(self, margin: float, *, waited: bool) -> None:
        self.guards_passed += 1
        self.guards_waited += waited
        self.least_margin = margin if self.least_margin is None else min(self.least_margin, margin)


class QueryCall:
    """A :class:`federation.contract.call.Call` of a query: it has no lease, so it may change nothing.

    ``seconds`` is how long the answer is waited for, from now on ``clock``.
    """

    def __init__(self, cluster: str, seconds: float, clock: Callable[[], float] = lease_clock) -> None:
        self.operation = str(uuid.uuid4())
        self.attempt = 1
        self.recovering = False
        self.cluster = cluster
        self.seconds = seconds
        self.tried_to_change = False
        self.step = Step(None, "")
        self._ends = clock() + seconds
        self._clock = clock
        self._given_up = threading.Event()

    def guard(self) -> None:
        """Raise DriverBug: whoever guards wants to change something."""
        self.tried_to_change = True
        message = "a query may change nothing on the hypervisor"
        raise DriverBug(message)

    def progress(self, percent: float | None, stage: str) -> None:
        """Keep what the query does, for the log when it hangs."""
        self.step = Step(percent, stage)

    def sleep(self, seconds: float) -> None:
        """Wait; raises Revoked as soon as nobody waits for the answer any more."""
        if self._given_up.wait(min(max(0.0, seconds), _LONGEST_WAIT)):
            raise Revoked

    def remaining(self) -> float | None:
        """Seconds until the answer is no longer waited for."""
        return max(0.0, self._ends - self._clock())

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._given_up.is_set()

    def give_up(self) -> None:
        """Nobody waits for the answer any more: end a sleep."""
        self._given_up.set()
