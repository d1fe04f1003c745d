"""Faults that a test orders: each rule fires a number of times, at requests that it matches."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    DROP_BEFORE = "drop_before"
    """The connection closes before the request takes effect."""
    DROP_AFTER = "drop_after"
    """The request takes effect, and the connection closes before the answer."""
    DELAY = "delay"
    """The answer comes ``seconds`` later."""
    DENY = "deny"
    """Access is denied."""
    RETURN = "return"
    """The method returns ``code`` and does nothing."""
    FAIL_JOB = "fail_job"
    """The job ends in an exception with ``code``; nothing happened."""
    PARTIAL_JOB = "partial_job"
    """The job stops half way, ends in an exception with ``code``, and leaves what the first half did."""
    HANG_JOB = "hang_job"
    """The job runs ``seconds`` longer."""
    GONE = "gone"
    """The host closes every connection unanswered, until the rule is used up or removed."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """A rule: empty strings match anything; ``action`` is a method's name, or Enumerate, Pull, Get, Put, Identify."""

    kind: FaultKind
    host: str = ""
    action: str = ""
    times: int = 1
    seconds: float = 0.0
    code: int = 32768
    description: str = "an ordered fault"

    def matches(self, host: str, action: str) -> bool:
        """Whether it is meant for this request."""
        return (
            self.times > 0 and self.host.lower() in {"", host.lower()} and self.action.lower() in {"", action.lower()}
        )


class Faults:
    """The rules in force, taken from by the server's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []

    def order(self, fault: Fault) -> Fault:
        """Add a rule."""
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def take(self, host: str, action: str, *kinds: FaultKind) -> Fault | None:
        """The first rule of these kinds that matches, used once more; None when there is none."""
        with self._lock:
            for rule in self._rules:
                if rule.kind in kinds and rule.matches(host, action):
                    rule.times -= 1
                    return rule
        return None
