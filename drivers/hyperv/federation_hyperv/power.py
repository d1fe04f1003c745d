"""The power operations: look, act unless the target is reached, look again when the act was refused or interrupted.

The table says from which states each may act.  A state that is not listed there and is not the target is refused with
invalid_state, naming both.

reboot stops the machine (hard) or asks its guest to shut down (soft), then starts it.  Hyper-V's own reset leaves nothing
behind by which a repeat could tell whether it has happened.  So the operation's id is noted twice: before the stop (``boot``)
and while the machine is off (``booted``).  One that runs with the first note only has not been stopped yet; one that runs
with both has been restarted; one that is off was stopped by this operation and has to be started.
"""

from __future__ import annotations

import time

from federation.contract.errors import (
    GuestRefused,
    HypervisorRefused,
    HypervisorUnreachable,
    InvalidState,
    OperationError,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.instances import PowerState
from federation.contract.requests import PowerOff, PowerOffMode, Reboot, RebootMode
from federation_hyperv import msvm, notes
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.machine import Machine
from federation_hyperv.notes import Note

_S = PowerState
ALLOWED: dict[str, tuple[frozenset[PowerState], PowerState]] = {
    "power_on": (frozenset({_S.STOPPED, _S.SUSPENDED}), _S.RUNNING),
    "power_off": (frozenset({_S.RUNNING, _S.PAUSED, _S.CRASHED, _S.SUSPENDED, _S.UNKNOWN}), _S.STOPPED),
    "graceful power_off": (frozenset({_S.RUNNING}), _S.STOPPED),
    "pause": (frozenset({_S.RUNNING}), _S.PAUSED),
    "unpause": (frozenset({_S.PAUSED}), _S.RUNNING),
    "suspend": (frozenset({_S.RUNNING, _S.PAUSED}), _S.SUSPENDED),
    "resume": (frozenset({_S.SUSPENDED}), _S.RUNNING),
}
"""Operation: the states from which it acts, and its target."""

REQUESTED = {
    "power_on": msvm.START,
    "power_off": msvm.STOP,
    "pause": msvm.PAUSE,
    "unpause": msvm.START,
    "suspend": msvm.SAVE,
    "resume": msvm.START,
}
"""Operation: what RequestStateChange is asked for."""

_LOOK_SECONDS = 0.3
_REASON = "Asked for by the driver federation"


def change(fleet: Fleet, attempt: Attempt, instance: str, operation: str) -> Machine:
    """Any operation that is one request for a state.

    An interruption that comes while the host is at it comes too late when the state is reached after all.
    """
    machine = fleet.find(instance)
    machine.wait_idle(attempt)
    if reached(machine, operation):
        return machine
    try:
        machine.request_state(attempt, REQUESTED[operation], operation, machine.host.timeouts.save_seconds)
    except InvalidState:
        machine.wait_idle(attempt)
        if not reached(machine, operation):
            raise
    except OperationError as error:
        if error is not attempt.interruption or not attempt.changes or machine.look() is not ALLOWED[operation][1]:
            raise
    return machine


def power_off(fleet: Fleet, attempt: Attempt, request: PowerOff) -> Machine:
    """Stop it; TimedOut when the guest was asked and still runs."""
    if request.mode is PowerOffMode.HARD:
        return change(fleet, attempt, request.instance, "power_off")
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    if not reached(machine, "graceful power_off"):
        _shut_down(attempt, machine, request.timeout_seconds)
    return machine


def reboot(fleet: Fleet, attempt: Attempt, request: Reboot) -> Machine:
    """Restart it; TimedOut when the guest was asked to shut down and still runs."""
    machine = fleet.find(request.instance)
    machine.wait_idle(attempt)
    note = machine.note
    if note.boot != attempt.operation:
        if machine.power_state is not PowerState.RUNNING:
            raise invalid(machine, "reboot", [PowerState.RUNNING])
        machine.write_note(attempt, notes.replaced(note, boot=attempt.operation))
    elif machine.active and note.booted == attempt.operation:
        return machine
    if machine.active:
        try:
            _go_down(attempt, machine, request)
        except OperationError:
            if machine.look() is not PowerState.STOPPED:
                _unmark(attempt, machine, note)
                raise
            if attempt.interruption is None:
                raise
    _come_up(attempt, machine, note)
    return machine


def reached(machine: Machine, operation: str) -> bool:
    """Whether the target is reached already; InvalidState when the operation may not act from here."""
    allowed, target = ALLOWED[operation]
    if machine.power_state is target:
        return True
    if machine.power_state not in allowed:
        raise invalid(machine, operation, sorted(allowed))
    return False


def invalid(machine: Machine, operation: str, allowed: list[PowerState]) -> InvalidState:
    """The refusal that names the state and those that would do."""
    wanted = " or ".join(allowed)
    return InvalidState(
        f"{machine.instance} is {machine.power_state}, {operation} needs it {wanted}",
        power_state=machine.power_state,
        expected=wanted,
    )


def _go_down(attempt: Attempt, machine: Machine, request: Reboot) -> None:
    if request.mode is RebootMode.SOFT:
        _shut_down(attempt, machine, request.timeout_seconds)
    else:
        machine.stop(attempt)
        machine.look()


def _unmark(attempt: Attempt, machine: Machine, before: Note) -> None:
    """Take the operation's notes off again, as if it had never been; ``before`` is the note that it found."""
    boot, booted = (text if text != attempt.operation else "" for text in (before.boot, before.booted))
    machine.write_note(attempt, notes.replaced(machine.note, boot=boot, booted=booted))


def _come_up(attempt: Attempt, machine: Machine, before: Note) -> None:
    """Start what was stopped for the reboot.  That is also what undoes the stop, when the operation is interrupted."""
    interruption = attempt.interruption
    for last in (interruption is not None, True):
        try:
            machine.write_note(attempt, notes.replaced(machine.note, booted=attempt.operation))
            machine.start(attempt)
        except (HypervisorUnreachable, OutcomeUnknown):
            raise
        except OperationError as error:
            if error is attempt.interruption and not last:
                interruption = error
                if machine.look() is PowerState.RUNNING:
                    break
                continue
            told = f"{machine.name} was stopped for the reboot and did not start: {error.message}"
            raise OutcomeUnknown(told) from error
        else:
            break
    machine.look()
    if interruption is not None:
        _unmark(attempt, machine, before)
        raise interruption


def _shut_down(attempt: Attempt, machine: Machine, timeout_seconds: float) -> None:
    """Ask the guest to shut down and wait until it has, or the time is up.

    What the guest was asked cannot be taken back, and the errors say so.
    """
    component = machine.host.select("Msvm_ShutdownComponent", f"SystemName = '{machine.guid}'")
    if not component:
        raise GuestRefused(f"{machine.name}: no shutdown service answers in the guest (integration services)")
    asked = False
    try:
        attempt.progress(None, "waiting for the guest to shut down")
        machine.host.run(
            attempt, f"shut down {machine.instance}", component[0].reference, "InitiateShutdown",
            {"Force": False, "Reason": _REASON},
        )  # fmt: skip
        asked = True
        _wait_until_down(attempt, machine, timeout_seconds)
    except (HypervisorRefused, InvalidState) as error:
        if machine.look() is PowerState.STOPPED:
            return
        raise GuestRefused(f"{machine.name}: the guest refused to shut down: {error.message}") from error
    except OperationError as error:
        if error is not attempt.interruption or not asked:
            raise
        told = f"{error.message}; the guest was asked to shut down and may still do it"
        raise type(error)(told, **error.detail) from error


def _wait_until_down(attempt: Attempt, machine: Machine, timeout_seconds: float) -> None:
    start = time.monotonic()
    while machine.look() is not PowerState.STOPPED:
        if time.monotonic() - start >= timeout_seconds:
            raise TimedOut(
                f"{machine.name}: the guest did not shut down within {timeout_seconds:g} s; it may still do so",
                timeout_seconds=timeout_seconds,
            )
        attempt.sleep(_LOOK_SECONDS)
