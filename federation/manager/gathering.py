"""Callers that come together are served together: what each of them would cost alone is paid once for all.

Whoever comes while few work does the work at once, for itself.  Who comes meanwhile waits; the first of those does the work
for all that wait by then, as soon as one of the others has ended.  So nobody waits for company, groups are as large as the
load makes them, and one group that is held up holds up no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from federation.protocol.errors import StoreUnavailable

_Wish = TypeVar("_Wish")
_Reply = TypeVar("_Reply")

PATIENCE_SECONDS = 10.0
"""For one's turn; the store's own for one lock."""


@dataclass(slots=True, eq=False)
class _Place(Generic[_Wish, _Reply]):
    """Somebody's place in the line; woken when it is its turn to work, or when others have worked for it."""

    wish: _Wish
    woken: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    reply: _Reply | Exception | None = None


class Gathering(Generic[_Wish, _Reply]):
    """``work`` gets at most ``most`` wishes, in the order of asking, and gives a reply or an exception for each.

    What it raises instead is raised to everybody in the group.  At most ``abreast`` groups are worked for at the same time,
    each in the thread of one of its callers.  ``patience`` bounds the wait for one's turn, in seconds.
    """

    def __init__(
        self,
        work: Callable[[list[_Wish]], Sequence[_Reply | Exception]],
        *,
        most: int,
        abreast: int,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._work = work
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._line: list[_Place[_Wish, _Reply]] = []
        self._free = abreast

    def ask(self, wish: _Wish) -> _Reply:
        """The reply to one wish; raises what the work gives or raises for it, StoreUnavailable when its turn never comes."""
        mine: _Place[_Wish, _Reply] = _Place(wish)
        with self._lock:
            self._line.append(mine)
            self._appoint()
        if not mine.leads:
            self._wait(mine)
        if mine.leads:
            self._lead(mine)
        if isinstance(mine.reply, Exception):
            raise mine.reply
        return mine.reply  # type: ignore[return-value]  # it has been replied to

    def _appoint(self) -> None:
        """Let the first in the line lead, if there is room for another group.  An appointed one has left the line."""
        if self._free and self._line:
            self._free -= 1
            first = self._line.pop(0)
            first.leads = True
            first.woken.set()

    def _wait(self, mine: _Place[_Wish, _Reply]) -> None:
        if mine.woken.wait(self._patience):
            return
        with self._lock:
            if mine in self._line:
                self._line.remove(mine)
                message = f"those who came before were not served within {self._patience:g} s; try again later"
                raise StoreUnavailable(message)
        mine.woken.wait()  # it is being worked for, or leads by now; the work has limits of its own

    def _lead(self, mine: _Place[_Wish, _Reply]) -> None:
        with self._lock:
            others = self._most - 1
            group, self._line = [mine, *self._line[:others]], self._line[others:]
        try:
            replies: Sequence[_Reply | Exception] = self._work([place.wish for place in group])
        except BaseException as error:
            replies = [_same_for(error) for _ in group]
            if not isinstance(error, Exception):
                raise
        finally:
            for place, reply in zip(group, replies, strict=True):
                place.reply = reply
            with self._lock:
                self._free += 1
                self._appoint()
            for place in group:
                place.woken.set()


def _same_for(error: BaseException) -> Exception:
    """An exception of one's own for each of those whom one error meets: each has a traceback."""
    if isinstance(error, StoreUnavailable):
        copy: Exception = StoreUnavailable(str(error))
    else:
        copy = RuntimeError(f"what was done for several together ended with {type(error).__name__}")
    copy.__cause__ = error
    return copy
