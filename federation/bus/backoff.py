"""The pauses between attempts."""

from __future__ import annotations

from tenacity import RetryCallState, Retrying, wait_random_exponential

_FIRST_PAUSE_SECONDS = 0.1


class Backoff:
    """Growing, jittered, capped pauses (tenacity's), for loops that a callback or an event drives."""

    def __init__(self, longest_seconds: float) -> None:
        self._wait = wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=longest_seconds)
        self._state = RetryCallState(Retrying(), None, (), {})

    def next(self) -> float:
        """Seconds to pause before the next attempt."""
        pause = self._wait(self._state)
        self._state.attempt_number += 1
        return pause

    def reset(self) -> None:
        """An attempt succeeded: the next pause is short again."""
        self._state.attempt_number = 1
