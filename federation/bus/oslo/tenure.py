"""Whether what a listener holds of a queue is still its own."""

from __future__ import annotations


class Tenure:
    """From one loss of a queue to the next; every delivery remembers the one in which it came."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False


class Tenures:
    """The current tenure of each queue of one subscription; used on the link's I/O thread."""

    def __init__(self, queues: list[str]) -> None:
        self._current = {queue: Tenure() for queue in queues}

    def of(self, queue: str) -> Tenure:
        """The tenure in which a delivery of this queue comes now."""
        return self._current[queue]

    def end(self, queue: str | None) -> None:
        """The broker has taken back what is held of one queue, or (None) of all."""
        for name in self._current if queue is None else [queue]:
            self._current[name].ended = True
            self._current[name] = Tenure()
