"""The ids of questions, and which of them wait for an answer: only for counting; the core judges answers by itself."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

from federation.protocol.envelope import Question


def question_ids() -> Callable[[], str]:
    """Ids that no other process and no other call of this function ever gives; far cheaper than a UUID each."""
    prefix, numbers = uuid.uuid4().hex, itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):x}"


class OpenQuestions:
    """The newest question of every key; bounded by what the core asks at a time and by what was lost unanswered."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._newest: dict[str, tuple[str, int]] = {}

    def asked(self, question: Question) -> None:
        """A question was sent (again)."""
        self._newest.pop(question.key, None)
        self._newest[question.key] = (question.id, question.partition)
        while len(self._newest) > self._limit:
            self._newest.pop(next(iter(self._newest)))

    def answered(self, key: str, question: str) -> bool:
        """Whether this answers the newest question of the key; it is open no longer then."""
        if self._newest.get(key, ("", 0))[0] != question:
            return False
        del self._newest[key]
        return True

    def forget(self, partition: int | None) -> None:
        """What was asked for deliveries of a partition (None: of all) waits no longer."""
        self._newest = {
            key: (question, of) for key, (question, of) in self._newest.items() if partition not in {None, of}
        }
