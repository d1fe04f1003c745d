"""Faults planted at the calls of a simulated hypervisor, by settings or from another process.

A fault waits in the hypervisor's state directory, so it can be planted while workers run, counts calls over all of them,
and a one-shot fault that killed its worker does not kill the next one.  Rules:

1. A fault looks at calls of one kind, operation, instance or attempt (None: any), counts those that match, and fires at
   the ``nth`` and at those behind it until it has fired ``times`` times (None: for ever).
2. ``phase`` says when: before the call reaches the hypervisor (after the guard), while it is under way there, or after it
   took effect.  A call under way goes on when its worker dies, as it would on a real hypervisor.
3. Several faults that fire at one call act in the order of their names.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_random

from federation.contract.errors import CATALOGUE
from federation.testing.clock import Clock, SystemClock
from federation.testing.hypervisor.database import Connection, Database


class Action(enum.StrEnum):
    """What a fault does."""

    RAISE = "raise"
    """Raise the catalogue error ``code``."""
    BUG = "bug"
    """Raise an exception that no operation declares."""
    KILL = "kill"
    """SIGKILL the worker's process."""
    CRASH = "crash"
    """Raise SimulatedCrash: a death for tests that run the driver in their own process."""
    HANG = "hang"
    """Block for ``seconds``, or until released when None."""
    SLOW = "slow"
    """Let the call take ``seconds`` longer."""
    LIE = "lie"
    """Say that the change is done without doing it."""
    IGNORE_GUARD = "ignore_guard"
    """Let the driver change without asking for leave."""


class Phase(enum.StrEnum):
    """When RAISE, BUG, KILL, CRASH and HANG act."""

    BEFORE = "before"
    UNDER_WAY = "under_way"
    AFTER = "after"


class Calls(enum.StrEnum):
    """Which calls count."""

    CHANGES = "changes"
    READS = "reads"
    ANY = "any"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One planted fault; ``kind`` is a kind of hypervisor call, ``operation`` an operation's name."""

    action: Action
    phase: Phase = Phase.BEFORE
    calls: Calls = Calls.CHANGES
    kind: str | None = None
    operation: str | None = None
    instance: str | None = None
    attempt: int | None = None
    nth: Annotated[int, Meta(ge=1)] = 1
    times: Annotated[int, Meta(ge=1)] | None = 1
    seconds: Annotated[float, Meta(ge=0)] | None = None
    code: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """ValueError on a combination that says nothing."""
        if (self.action is Action.RAISE) != (self.code is not None):
            raise ValueError(f"fault {self.action} with code {self.code}: exactly the action raise takes a code")
        if self.code is not None and self.code not in CATALOGUE:
            raise ValueError(f"fault code {self.code!r} is not in the catalogue: {', '.join(sorted(CATALOGUE))}")
        if self.action is Action.SLOW and self.seconds is None:
            raise ValueError("fault slow needs seconds")
        of_changes = self.phase is Phase.UNDER_WAY or self.action in {Action.LIE, Action.IGNORE_GUARD}
        if of_changes and self.calls is not Calls.CHANGES:
            raise ValueError(f"fault {self.action} {self.phase} is possible at changes only, calls is {self.calls}")

    def matches(self, spot: Spot) -> bool:
        """Whether it looks at this call."""
        return (
            (self.calls is Calls.ANY or (self.calls is Calls.CHANGES) == spot.changes)
            and self.kind in {None, spot.kind}
            and self.operation in {None, spot.operation_name}
            and self.instance in {None, spot.instance}
            and self.attempt in {None, spot.attempt}
        )


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """One call, as faults see it."""

    kind: str
    changes: bool
    operation_name: str
    operation: str
    instance: str
    attempt: int
    pid: int


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a fault fired; ``wall`` is seconds since the Unix epoch."""

    name: str
    wall: float
    spot: Spot


class PlantedBugError(RuntimeError):
    """What the action ``bug`` raises; no operation declares it."""


class FaultControl:
    """Plants, watches and releases the faults of one state directory, from any process."""

    def __init__(self, state_directory: str | Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._database = Database(Path(state_directory))

    def plant(self, fault: Fault) -> str:
        """Put it in place and return its name; one of that name that is there already stays as it is."""
        with self._database.transaction() as connection:
            count = connection.execute("SELECT count(*) FROM faults").fetchone()[0]
            name = fault.name or f"{count + 1:04}-{fault.action}"
            plant(connection, fault, name)
        return name

    def release(self, name: str) -> None:
        """Let go of what hangs by this fault, and let it fire no more; KeyError when there is none of that name."""
        with self._database.transaction() as connection:
            done = connection.execute("UPDATE faults SET released = 1, spent = 1 WHERE name = ?", (name,))
            if not done.rowcount:
                raise KeyError(name)
            connection.execute(
                "UPDATE calls SET ready = ? WHERE held_by = ? AND ready IS NULL", (self._clock.monotonic(), name)
            )

    def clear(self) -> None:
        """Release all and forget them with their firings."""
        with self._database.reading() as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM faults")]
        for name in names:
            self.release(name)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM faults")
            connection.execute("DELETE FROM firings")

    def firings(self, name: str | None = None) -> tuple[Firing, ...]:
        """Every firing so far, of one fault or of all, in order."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT fault, wall, spot FROM firings WHERE ? IS NULL OR fault = ? ORDER BY id", (name, name)
            ).fetchall()
        return tuple(Firing(name=row[0], wall=row[1], spot=msgspec.json.decode(row[2], type=Spot)) for row in rows)

    def wait_until_fired(self, name: str, timeout_seconds: float = 10.0, times: int = 1) -> tuple[Firing, ...]:
        """Wait until it has fired so often; TimeoutError names how often it did."""
        looking = Retrying(
            retry=retry_if_result(lambda seen: len(seen) < times),
            stop=stop_after_delay(timeout_seconds),
            wait=wait_random(0.005, 0.02),
        )
        try:
            return looking(self.firings, name)
        except RetryError as error:
            count = len(self.firings(name))
            message = f"fault {name} fired {count} times within {timeout_seconds} s, expected {times}"
            raise TimeoutError(message) from error

    def close(self) -> None:
        """Close the files."""
        self._database.close()


def plant(connection: Connection, fault: Fault, name: str) -> None:
    """Put a fault in place under a name, within the caller's transaction; one that is there stays as it is."""
    document = msgspec.json.encode(msgspec.structs.replace(fault, name=name))
    connection.execute("INSERT OR IGNORE INTO faults (name, document) VALUES (?, ?)", (name, document))


def draw(connection: Connection, spot: Spot, wall: float, *, of_guard: bool) -> tuple[Fault, ...]:
    """Count the call and return the faults that fire at it, within the caller's transaction.

    ``of_guard`` draws those that act on the guard, otherwise all others: a call that its guard stops counts for none.
    """
    fired = []
    for fault, seen, firings in _waiting(connection):
        if (fault.action is Action.IGNORE_GUARD) != of_guard or not fault.matches(spot):
            continue
        fires = seen + 1 >= fault.nth
        spent = fires and fault.times is not None and firings + 1 >= fault.times
        connection.execute(
            "UPDATE faults SET seen = seen + 1, fired = fired + ?, spent = ? WHERE name = ?", (fires, spent, fault.name)
        )
        if fires:
            connection.execute(
                "INSERT INTO firings (fault, wall, spot) VALUES (?, ?, ?)",
                (fault.name, wall, msgspec.json.encode(spot)),
            )
            fired.append(fault)
    return tuple(fired)


def any_planted(connection: Connection) -> bool:
    """Whether any fault is left that could fire."""
    return connection.execute("SELECT 1 FROM faults WHERE spent = 0 LIMIT 1").fetchone() is not None


def is_released(connection: Connection, name: str) -> bool:
    """Whether somebody let go of the fault, or cleared it."""
    row = connection.execute("SELECT released FROM faults WHERE name = ?", (name,)).fetchone()
    return row is None or bool(row[0])


def _waiting(connection: Connection) -> Iterator[tuple[Fault, int, int]]:
    rows = connection.execute("SELECT document, seen, fired FROM faults WHERE spent = 0 ORDER BY name").fetchall()
    return ((msgspec.json.decode(row[0], type=Fault), row[1], row[2]) for row in rows)
