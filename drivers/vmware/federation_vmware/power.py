"""The power operations: look, act unless the target is reached, look again.

The table says from which states each may act.  reboot is made convergent by a note that is written before anything else:
the operation's id and when the machine had been powered on then.  A machine that runs with another time has been
restarted since; one that is stopped was stopped for the reboot and has to be started.
"""

from __future__ import annotations

import time

from federation.contract.errors import (
    HypervisorUnreachable,
    InvalidState,
    OperationError,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.instances import PowerState
from federation.contract.requests import PowerOff, PowerOffMode, Reboot, RebootMode
from federation_vmware import faults
from federation_vmware.attempt import Attempt
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet, Machine, replaced

_S = PowerState
ALLOWED: dict[str, tuple[frozenset[PowerState], PowerState]] = {
    "power_on": (frozenset({_S.STOPPED, _S.SUSPENDED}), _S.RUNNING),
    "power_off": (frozenset({_S.RUNNING, _S.SUSPENDED}), _S.STOPPED),
    "graceful power_off": (frozenset({_S.RUNNING}), _S.STOPPED),
    "suspend": (frozenset({_S.RUNNING}), _S.SUSPENDED),
    "resume": (frozenset({_S.SUSPENDED}), _S.RUNNING),
}
"""Operation: the states from which it acts, and its target."""
_LOOK_SECONDS = 0.5


def power_on(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Start it, from its saved memory when it was suspended."""
    return _converge(fleet, attempt, instance, "power_on")


def resume(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Start it from its saved memory."""
    return _converge(fleet, attempt, instance, "resume")


def suspend(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Save its memory and stop it."""
    return _converge(fleet, attempt, instance, "suspend")


def power_off(fleet: Fleet, attempt: Attempt, request: PowerOff) -> Machine:
    """Stop it; TimedOut when the guest was asked and still runs."""
    if request.mode is PowerOffMode.HARD:
        return _converge(fleet, attempt, request.instance, "power_off")
    machine = fleet.find(request.instance)
    if not reached(machine, machine.settled(attempt), "graceful power_off"):
        _shut_down(fleet, attempt, machine, request.timeout_seconds)
    return machine


def reboot(fleet: Fleet, attempt: Attempt, request: Reboot) -> Machine:
    """Restart it: power off or ask the guest to shut down, then power on."""
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    owner = machine.owner(look)
    if owner.boot != attempt.operation:
        if look.power_state is not _S.RUNNING:
            raise _invalid(machine, look, "reboot", [_S.RUNNING])
        owner = replaced(owner, boot=attempt.operation, booted=look.booted)
        machine.reconfigure(attempt, look, "mark", owner=owner)
    elif look.power_state is _S.RUNNING and look.booted != owner.booted:
        return machine
    if machine.look().power_state is _S.RUNNING:
        _go_down(fleet, attempt, machine, request)
    _come_up(attempt, machine)
    return machine


def _go_down(fleet: Fleet, attempt: Attempt, machine: Machine, request: Reboot) -> None:
    """Stop it; an interruption before that takes the note of the reboot back."""
    try:
        if request.mode is RebootMode.SOFT:
            _shut_down(fleet, attempt, machine, request.timeout_seconds)
        else:
            _act(attempt, machine, "power_off")
    except OperationError:
        if attempt.interruption is not None:
            look = machine.look()
            owner = machine.owner(look)
            machine.reconfigure(attempt, look, "unmark", owner=replaced(owner, boot="", booted=""))
        raise


def reached(machine: Machine, look: Look, operation: str) -> bool:
    """Whether the target is reached already; InvalidState when the operation may not act from here."""
    allowed, target = ALLOWED[operation]
    if look.power_state is target:
        return True
    if look.power_state not in allowed:
        raise _invalid(machine, look, operation, sorted(allowed))
    return False


def _converge(fleet: Fleet, attempt: Attempt, instance: str, operation: str) -> Machine:
    machine = fleet.find(instance)
    if not reached(machine, machine.settled(attempt), operation):
        _act(attempt, machine, operation)
    return machine


def _act(attempt: Attempt, machine: Machine, operation: str) -> None:
    """Send it; a refusal because the target is reached meanwhile is no refusal, and neither is a cancel that came late."""
    try:
        if operation in {"power_on", "resume"}:
            machine.power_on(attempt)
        elif operation == "suspend":
            machine.run(attempt, "suspend", lambda one: one.SuspendVM_Task())
        else:
            machine.power_off(attempt)
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        if attempt.changes and machine.look().power_state is ALLOWED[operation][1]:
            return
        if faults.fault_of(error) == "InvalidPowerState":
            raise _invalid(machine, machine.look(), operation, sorted(ALLOWED[operation][0])) from error
        raise


def _come_up(attempt: Attempt, machine: Machine) -> None:
    """Start what was stopped for the reboot; an interruption comes too late now, going on is what undoes the stop."""
    for last in (False, True):
        try:
            _act(attempt, machine, "power_on")
        except (HypervisorUnreachable, OutcomeUnknown):
            raise
        except OperationError as error:
            if error is attempt.interruption and not last:
                continue
            raise OutcomeUnknown(
                f"{machine.instance} was stopped for the reboot and did not start: {error.message}"
            ) from error
        else:
            return


def _shut_down(fleet: Fleet, attempt: Attempt, machine: Machine, timeout_seconds: float) -> None:
    """Ask the guest, by VMware Tools, to shut down; what it was asked cannot be taken back, and the errors say so."""
    ends = time.monotonic() + timeout_seconds
    try:
        attempt.progress(None, "asking the guest to shut down")
        attempt.guard()
        session_call = f"shut down the guest of {machine.instance}"
        machine.connection.change(session_call, lambda s: s.bound(machine.reference).ShutdownGuest())
        machine.connection.touched.append(machine.reference)
        while fleet.power_state(machine) is _S.RUNNING:
            if time.monotonic() > ends:
                raise TimedOut(
                    f"the guest of {machine.instance} did not shut down within {timeout_seconds:g} s; it may still do so",
                    timeout_seconds=timeout_seconds,
                )
            attempt.sleep(_LOOK_SECONDS)
    except OperationError as error:
        if faults.fault_of(error) == "InvalidPowerState" and machine.look().power_state is _S.STOPPED:
            return
        if error is not attempt.interruption or not attempt.changes:
            raise
        told = f"{error.message}; the guest was asked to shut down and may still do it"
        raise type(error)(told, **error.detail) from error


def _invalid(machine: Machine, look: Look, operation: str, allowed: list[PowerState]) -> InvalidState:
    wanted = " or ".join(allowed)
    return InvalidState(
        f"{machine.instance} is {look.power_state}, {operation} needs it {wanted}",
        power_state=look.power_state,
        expected=wanted,
    )
