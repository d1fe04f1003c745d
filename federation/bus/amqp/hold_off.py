"""Leaving queues alone that do not answer.

A quorum queue without a leader answers nothing, and RabbitMQ 4.0.5 ends the whole connection (541) a while after a
consumer has asked for it; so each such queue is asked for seldom, and ever more seldom.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

FIRST_SECONDS = 30.0
LONGEST_SECONDS = 600.0


class HoldOff:
    """Until when each silent queue is left alone; the pause doubles with every silence."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._pause: dict[str, float] = {}

    def hold(self, queue: str) -> None:
        """It was silent once more."""
        pause = self._pause.get(queue, FIRST_SECONDS)
        self._until[queue] = self._clock() + pause
        self._pause[queue] = min(2 * pause, LONGEST_SECONDS)

    def holds(self, queue: str) -> bool:
        """Whether it is to be left alone now."""
        return self._until.get(queue, 0.0) > self._clock()

    def shortest(self) -> float:
        """Seconds until the next queue may be asked for, 0 when one may be now."""
        return max(0.0, min(self._until.values(), default=0.0) - self._clock())

    def clear(self) -> None:
        """Everything answers."""
        self._until.clear()
        self._pause.clear()
