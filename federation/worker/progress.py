"""Progress on its way out: the latest of every call, at most every so often."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from federation.protocol.envelope import Progress, Question
from federation.worker.calls import RunningCall


@dataclass(slots=True)
class _Pace:
    running: RunningCall
    sent: float = float("-inf")
    due: float | None = None


class ProgressPacer:
    """Says what to send when; ``every`` is the least time between two messages of one call, in seconds."""

    def __init__(self, worker: str, every: float) -> None:
        self._worker = worker
        self._every = every
        self._paces: dict[int, _Pace] = {}

    def started(self, call: int, running: RunningCall) -> None:
        """A call begins."""
        self._paces[call] = _Pace(running)

    def ended(self, call: int) -> None:
        """A call has ended: its outcome says more than any progress."""
        self._paces.pop(call, None)

    def made(self, call: int, now: float) -> None:
        """A call has news."""
        pace = self._paces.get(call)
        if pace is not None:
            pace.due = max(now, pace.sent + self._every)

    def next_due(self) -> float | None:
        """When there is something to send."""
        return min((pace.due for pace in self._paces.values() if pace.due is not None), default=None)

    def take_due(self, now: float) -> list[Progress]:
        """What is to be sent now."""
        messages = []
        for pace in self._paces.values():
            if pace.due is None or now < pace.due:
                continue
            pace.sent, pace.due = now, None
            message = None if pace.running.revoked else self._message(pace.running)
            if message is not None:
                messages.append(message)
        return messages

    def on_board(self, question: Question) -> Question:
        """A renewal takes the latest news of its call along."""
        for pace in self._paces.values():
            if (pace.running.operation, pace.running.attempt) == (question.operation, question.renews):
                step = pace.running.take_step()
                pace.due = None
                if step is not None:
                    return msgspec.structs.replace(question, percent=step.percent, stage=step.stage)
        return question

    def _message(self, running: RunningCall) -> Progress | None:
        step = running.take_step()
        if step is None:
            return None
        command = running.command
        return Progress(
            worker=self._worker,
            cluster=command.cluster,
            partition=command.partition,
            operation=command.operation,
            key=command.key,
            attempt=running.attempt,
            percent=step.percent,
            stage=step.stage,
        )
