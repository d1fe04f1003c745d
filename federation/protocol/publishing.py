"""The publisher's rule: which operation of which key may be sent now (DESIGN §6.3, step 2).

1. Operation s+1 of a key is sent only after s was confirmed or settled; different keys are pipelined.
2. Every copy carries its round; what was nacked, returned or lost goes out again in a *new* round, which is written to
   the store before it is sent.
3. Publishing again is safe at any time; publishing again from position + 1 goes in order, each waiting for the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Unsent:
    """An operation that no broker has confirmed in its current round."""

    operation: str
    sequence: int
    round: int


@dataclass(slots=True)
class KeyLine:
    """What one key has to send, by sequence; at most one of them is in flight."""

    waiting: dict[int, Unsent] = field(default_factory=dict)
    in_flight: Unsent | None = None
    blocked_by: int | None = None
    """The sequence that failed and waits for its new round; nothing behind it is sent before."""


class PublisherCore:
    """Decides what is sent next for all keys of the shards that one manager owns."""

    def __init__(self) -> None:
        self._lines: dict[str, KeyLine] = {}

    def accepted(self, key: str, unsent: Unsent) -> list[Unsent]:
        """An operation has to be published (for the first time or again, in ``unsent.round``).

        Called by sequence within a key: s+1 that is told of before s is sent before it (the answer table's row 3 keeps
        the order then, at the price of a gap).
        """
        line = self._lines.setdefault(key, KeyLine())
        known = line.waiting.get(unsent.sequence)
        current = line.in_flight
        if current is not None and current.sequence == unsent.sequence and current.round >= unsent.round:
            return []
        if known is None or known.round < unsent.round:
            line.waiting[unsent.sequence] = unsent
        if line.blocked_by == unsent.sequence:
            line.blocked_by = None
        return self._next(key, line)

    def confirmed(self, key: str, sequence: int, round_: int) -> list[Unsent]:
        """The broker confirmed a copy."""
        line = self._lines.get(key)
        if (
            line is None
            or line.in_flight is None
            or (line.in_flight.sequence, line.in_flight.round) != (sequence, round_)
        ):
            return []
        line.in_flight = None
        return self._next(key, line)

    def failed(self, key: str, sequence: int, round_: int) -> Unsent | None:
        """A copy was nacked, returned or lost: the caller writes a new round, then calls ``accepted`` with it.

        Nothing of the key is sent before that.  When a newer round waits already, ``pending`` sends it.  When there is
        no new round to write, because the operation has its outcome by now (the lost copy had arrived after all, and
        another manager applied what came of it), the caller calls ``settled`` instead, or the key waits for ever.
        """
        line = self._lines.get(key)
        if (
            line is None
            or line.in_flight is None
            or (line.in_flight.sequence, line.in_flight.round) != (sequence, round_)
        ):
            return None
        failed, line.in_flight = line.in_flight, None
        newer = line.waiting.get(failed.sequence)
        if newer is None:
            line.blocked_by = failed.sequence
        return failed

    def pending(self, key: str) -> list[Unsent]:
        """Send what waits for this key, if nothing hinders it."""
        line = self._lines.get(key)
        return self._next(key, line) if line is not None else []

    def settled(self, key: str, sequence: int) -> list[Unsent]:
        """An operation has an outcome: nothing up to it needs to be sent."""
        line = self._lines.get(key)
        if line is None:
            return []
        line.waiting = {s: unsent for s, unsent in line.waiting.items() if s > sequence}
        if line.in_flight is not None and line.in_flight.sequence <= sequence:
            line.in_flight = None
        if line.blocked_by is not None and line.blocked_by <= sequence:
            line.blocked_by = None
        return self._next(key, line)

    def forget(self, keys: set[str]) -> None:
        """These keys belong to another manager now."""
        for key in keys:
            self._lines.pop(key, None)

    @property
    def keys(self) -> set[str]:
        """The keys that have something to send or in flight."""
        return set(self._lines)

    @property
    def backlog(self) -> int:
        """Operations that wait or are in flight."""
        return sum(len(line.waiting) + (line.in_flight is not None) for line in self._lines.values())

    def _next(self, key: str, line: KeyLine) -> list[Unsent]:
        if line.in_flight is not None or line.blocked_by is not None:
            return []
        if not line.waiting:
            del self._lines[key]
            return []
        unsent = line.waiting.pop(min(line.waiting))
        line.in_flight = unsent
        return [unsent]
