"""The call that a case hands to the driver: the worker's own, which kills, revokes or cancels where the case says.

Points in a driver's method are counted by its guards, because every changing call has one right before it:

* *before n*: the process dies in the n-th guard, so the n-th changing call never reaches the hypervisor;
* *after n*: the process dies at the first word that the driver says after the n-th guard (guard, sleep, progress,
  remaining, or its return), so the n-th changing call has been made and nothing else;
* *during n*: the process dies so many seconds after the n-th guard let the driver through, whatever it does then.

Together they put a death before, in the middle of and behind every changing call of every driver, without knowing how
the driver talks to its hypervisor.  *Revoke* lets the lease run out in the n-th guard, which waits then, and takes the leave
away for good a moment later.
"""

from __future__ import annotations

import enum
import os
import signal
import threading
import time
from collections.abc import Callable

import msgspec

from federation.protocol.worker_actions import StartCall
from federation.worker.calls import RunningCall

LONGEST_TRACE = 10_000
UNTIL_REVOKED_SECONDS = 0.05


class What(enum.StrEnum):
    """What happens at a point."""

    NOTHING = "nothing"
    KILL_BEFORE = "kill_before"
    KILL_AFTER = "kill_after"
    KILL_DURING = "kill_during"
    REVOKE = "revoke"
    CANCEL = "cancel"
    DEADLINE = "deadline"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """``what`` happens at the ``at``-th guard (counted from 1); ``seconds`` is for KILL_DURING."""

    what: What = What.NOTHING
    at: int = 0
    seconds: float = 0.0


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One word of the driver to its call: ``kind`` is guard, sleep, progress, remaining or end; ``at`` is CLOCK_MONOTONIC."""

    kind: str
    at: float
    problem: str = ""


class ScriptedCall(RunningCall):
    """A RunningCall whose lease lasts, with a script and a trace of what the driver said."""

    def __init__(self, start: StartCall, script: Script, die: Callable[[], None] | None = None) -> None:
        super().__init__(start, lambda: None)
        self.trace: list[Event] = []
        self.guards = 0
        self._granted = start.lease
        self._script = script
        self._due = False
        self._die = die or _die

    def guard(self) -> None:
        """Do what the script says at this guard, then what the worker's call does."""
        self.guards += 1
        self._said("guard")
        here = self.guards == self._script.at
        if here:
            self._act()
        super().guard()
        if here and self._script.what is What.KILL_AFTER:
            self._due = True
        if here and self._script.what is What.KILL_DURING:
            timer = threading.Timer(self._script.seconds, self._die)
            timer.daemon = True
            timer.start()

    def sleep(self, seconds: float) -> None:
        """Wait as the worker's call does."""
        self._said("sleep", "" if seconds >= 0 else f"sleep of {seconds} s")
        super().sleep(seconds)

    def progress(self, percent: float | None, stage: str) -> None:
        """Note it, with what is wrong with it."""
        wrong = percent is not None and not 0 <= percent <= 100  # noqa: PLR2004 (percent)
        self._said("progress", f"progress is {percent}, expected 0 to 100 or None" if wrong else "")
        super().progress(percent, stage)

    def remaining(self) -> float | None:
        """As the worker's call."""
        self._said("remaining")
        return super().remaining()

    def ended(self) -> None:
        """The driver's method is over."""
        self._said("end")

    def _act(self) -> None:
        match self._script.what:
            case What.KILL_BEFORE:
                self._die()
            case What.REVOKE:
                self._run_out()
            case What.CANCEL:
                self._granted.cancel_requested = True
            case What.DEADLINE:
                self._ends = self._clock()
            case What.KILL_AFTER | What.KILL_DURING | What.NOTHING:
                return

    def _run_out(self) -> None:
        """As for a worker that is cut off: the lease ends, the guard waits in vain, then another worker has the grant."""
        self._granted.ends = self._clock()
        timer = threading.Timer(UNTIL_REVOKED_SECONDS, self.revoke)
        timer.daemon = True
        timer.start()

    def _said(self, kind: str, problem: str = "") -> None:
        if self._due:
            self._die()
        if len(self.trace) < LONGEST_TRACE:
            self.trace.append(Event(kind, time.monotonic(), problem))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
