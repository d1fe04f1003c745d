"""What makes the simulated driver's operations convergent: steps that look first, and an undo that looks too.

Rules (DESIGN §5.6):

1. A step whose end is there already is skipped; so a recovering attempt walks the same steps and does what is missing.
2. When a call fails nobody knows whether it took effect: wait for what is under way, look, and go on if it did.
3. An error of the catalogue (a cancellation too) undoes what this operation made, found by its marks on the hypervisor
   and not by what this process remembers.  What cannot be undone is reported as outcome_unknown.
4. A revocation or a crash undoes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from federation.contract.errors import Cancelled, Effect, InvalidState, NotFound, OperationError, OutcomeUnknown
from federation.contract.instances import PowerState
from federation.testing.hypervisor.records import Machine
from federation.testing.hypervisor.session import Session

LOOK_SECONDS = 0.2

Done = Callable[[Machine | None], bool]
Undo = Callable[[Session], None]


def step(session: Session, kind: str, done: Done, **arguments: Any) -> None:
    """Make one change unless it is made; arguments as of :meth:`Session.change`."""
    if done(session.read()):
        return
    try:
        session.change(kind, **arguments)
    except Cancelled:
        raise
    except OperationError as error:
        wait_for_calls(session)
        if not done(_look_again(session, error)):
            raise


@contextmanager
def undoing(session: Session, undo: Undo | None = None) -> Iterator[None]:
    """Undo what this operation made when it ends with an error of the catalogue.

    Without ``undo`` an error that comes after a change was tried in vain is left as it is only if the operation is one
    single change; an irreversible one ends as outcome_unknown.
    """
    try:
        yield
    except OperationError as error:
        if error.effect is Effect.UNKNOWN:
            raise
        if session.irreversible:
            message = f"{session.name} can neither go on nor back: {error.message}"
            raise OutcomeUnknown(message, **error.detail) from error
        if undo is not None:
            _undo(session, undo, error)
        raise


def wait_for_calls(session: Session) -> None:
    """Wait until no call of anybody is under way on the machine.

    Raises OutcomeUnknown after ``call_wait_seconds`` or at the deadline: such a call may still do anything.
    """
    limit = session.hypervisor.settings.call_wait_seconds
    waited = 0.0
    while (over := session.calls_over_at()) is not None:
        left = session.call.remaining()
        if waited >= limit or (left is not None and left <= 0):
            message = f"a call of an earlier attempt is still under way on {session.machine_id} after {waited:.1f} s"
            raise OutcomeUnknown(message, instance=session.machine_id)
        pause = LOOK_SECONDS if math.isinf(over) else max(0.001, over - session.hypervisor.clock.monotonic())
        pause = min(pause, LOOK_SECONDS)
        session.call.sleep(pause)
        waited += pause


def require(session: Session) -> Machine:
    """The machine, if it is there and ours; else NotFound, or InvalidState for a foreign one."""
    machine = session.read()
    if machine is None or not machine.defined:
        raise NotFound(f"instance {session.machine_id} is not on this cluster", instance=session.machine_id)
    require_owned(machine)
    return machine


def require_owned(machine: Machine) -> None:
    """Raise InvalidState on a machine that is not ours."""
    if not machine.owned:
        message = f"machine {machine.id} ({machine.name}) is foreign: it was not made here and is never touched"
        raise InvalidState(message, instance=machine.id, name=machine.name)


def require_state(machine: Machine, name: str, *allowed: PowerState) -> None:
    """Raise InvalidState, naming both, unless the machine is in one of the states."""
    if machine.power_state not in allowed:
        expected = " or ".join(allowed)
        message = f"{name}: instance {machine.id} is {machine.power_state}, expected {expected}"
        raise InvalidState(message, instance=machine.id, power_state=machine.power_state, expected=expected)


def require_agent(machine: Machine, name: str) -> None:
    """Raise InvalidState, naming the agent, unless one answers in the guest."""
    if not machine.agent:
        message = f"{name}: no agent answers in the guest of instance {machine.id}, expected one"
        raise InvalidState(message, instance=machine.id, expected="agent")


def _undo(session: Session, undo: Undo, error: OperationError) -> None:
    try:
        wait_for_calls(session)
        undo(session)
    except OperationError as second:
        message = f"{session.name} failed ({error.message}) and could not be undone: {second.message}"
        raise OutcomeUnknown(message, **error.detail) from error


def _look_again(session: Session, error: OperationError) -> Machine | None:
    try:
        return session.read()
    except OperationError as second:
        message = f"{session.name}: {error.message}; whether it took effect cannot be read: {second.message}"
        raise OutcomeUnknown(message, **error.detail) from second
