"""What cannot be seen to have happened already is counted: a marker keeps the count from before the operation.

Rule (DESIGN §5.6): the marker is written first; a repeat that finds it compares the counts and does the thing at most once.
"""

from __future__ import annotations

from collections.abc import Callable

from federation.testing.hypervisor.records import Machine
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, step

Count = Callable[[Machine], int]


def marked_before(session: Session, machine: Machine, note: str, count: Count) -> int:
    """What was counted before this operation, writing the marker unless an earlier attempt has; ``machine`` as just read."""
    operation = session.call.operation
    if before_of(machine, note, operation) is None:
        value = f"{operation}:{count(machine)}"
        step(session, "mark", lambda m: m is not None and m.notes.get(note) == value, note=note, value=value)
    machine = require(session)
    before = before_of(machine, note, operation)
    # Somebody lied to us about the marker: at least this attempt does not do it twice.
    return count(machine) if before is None else before


def before_of(machine: Machine, note: str, operation: str) -> int | None:
    """What this operation's marker says, None when there is none of it."""
    owner, _, count = machine.notes.get(note, "").partition(":")
    return int(count) if owner == operation else None


def counted_after(count: Count, before: int) -> Callable[[Machine | None], bool]:
    """Whether it has happened since."""
    return lambda machine: machine is not None and count(machine) > before


def forget(note: str, count: Count) -> Callable[[Session], None]:
    """The undo: takes the marker away if nothing has happened under it."""

    def undo(session: Session) -> None:
        machine = session.read()
        before = machine and before_of(machine, note, session.call.operation)
        if machine is not None and before is not None and count(machine) == before:
            session.change("unmark", note=note)

    return undo
