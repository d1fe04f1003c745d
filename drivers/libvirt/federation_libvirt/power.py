"""The power operations: look, act unless the target is reached, look again when the act was refused.

The table says from which states each may act.  A state that is not listed there and is not the target is refused with
invalid_state, naming both.

reboot restarts QEMU: stop (hard) or ask the guest to shut down (soft), then start.  It is made convergent by our metadata:
its operation's id is written as ``boot`` into the definition only.  libvirt takes the definition for the running domain
when that starts.  So a domain that runs with this id has been restarted since; one that runs with another has not; and
one that is stopped with this id in its definition was stopped by this operation and has to be started.  This needs no
counter and survives workers and libvirtd.
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
from federation_libvirt import facts, ownership
from federation_libvirt.attempt import Attempt
from federation_libvirt.facts import Look
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine, replaced
from federation_libvirt.undoing import undone_on_error

_S = PowerState
ALLOWED: dict[str, tuple[frozenset[PowerState], PowerState]] = {
    "power_on": (frozenset({_S.STOPPED, _S.SUSPENDED}), _S.RUNNING),
    "power_off": (frozenset({_S.RUNNING, _S.PAUSED, _S.CRASHED, _S.SUSPENDED}), _S.STOPPED),
    "graceful power_off": (frozenset({_S.RUNNING}), _S.STOPPED),
    "pause": (frozenset({_S.RUNNING}), _S.PAUSED),
    "unpause": (frozenset({_S.PAUSED}), _S.RUNNING),
    "suspend": (frozenset({_S.RUNNING, _S.PAUSED}), _S.SUSPENDED),
    "resume": (frozenset({_S.SUSPENDED}), _S.RUNNING),
}
"""Operation: the states from which it acts, and its target."""

PRESS_AGAIN_SECONDS = 10.0
"""A guest that has not started its ACPI daemon yet loses the first press."""
_LOOK_SECONDS = 0.3


def power_on(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Start it, from its saved memory when it was suspended."""
    return _start(fleet, attempt, instance, "power_on")


def resume(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Start it from its saved memory."""
    return _start(fleet, attempt, instance, "resume")


def power_off(fleet: Fleet, attempt: Attempt, request: PowerOff) -> Machine:
    """Stop it; TimedOut when the guest was asked and still runs.

    The hard way does not wait for whatever the hypervisor is at: a hanging job is a reason to take the power away.
    """
    machine = fleet.find(request.instance)
    if request.mode is PowerOffMode.HARD:
        if not _reached(machine, machine.look(), "power_off"):
            machine.stop(attempt)
    elif not _reached(machine, machine.wait_idle(attempt), "graceful power_off"):
        _shut_down(attempt, machine, request.timeout_seconds)
    return machine


def pause(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Halt its processors."""
    machine = fleet.find(instance)
    if not _reached(machine, machine.wait_idle(attempt), "pause"):
        machine.pause(attempt)
    return machine


def unpause(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Let its processors run."""
    machine = fleet.find(instance)
    if not _reached(machine, machine.wait_idle(attempt), "unpause"):
        machine.unpause(attempt)
    return machine


def suspend(fleet: Fleet, attempt: Attempt, instance: str) -> Machine:
    """Save its memory and stop it.

    A save under way from an earlier attempt is waited for.  An interruption gives the save up, and the guest runs on.
    """
    machine = fleet.find(instance)
    try:
        if not _reached(machine, machine.wait_idle(attempt), "suspend"):
            machine.save(attempt, lambda: _report_save(attempt, machine))
    except OperationError as error:
        if error is not attempt.interruption or not _finished_after_all(attempt, machine):
            raise
    return machine


def reboot(fleet: Fleet, attempt: Attempt, request: Reboot) -> Machine:
    """Restart it; TimedOut when the guest was asked to shut down and still runs."""
    machine = fleet.find(request.instance)
    look = machine.wait_idle(attempt)
    owner = machine.owner()
    if owner.boot != attempt.operation:
        if look.power_state is not PowerState.RUNNING:
            raise _invalid(machine, look, "reboot", [PowerState.RUNNING])
        machine.write_owner(attempt, replaced(owner, boot=attempt.operation), live=False)
    elif look.active and _boot_of(machine) == attempt.operation:
        return machine
    if machine.look().active:
        _go_down(attempt, machine, request)
    _come_up(attempt, machine)
    return machine


def _unmark(attempt: Attempt, machine: Machine) -> None:
    """Take a reboot's mark back that nothing has followed; what runs still knows the one before."""
    owner, before = machine.owner(), _boot_of(machine)
    if owner.boot != before:
        machine.write_owner(attempt, replaced(owner, boot=before), live=False)


def _start(fleet: Fleet, attempt: Attempt, instance: str, operation: str) -> Machine:
    machine = fleet.find(instance)
    if not _reached(machine, machine.wait_idle(attempt), operation):
        machine.host.check_free(facts.memory_bytes(machine.definition()))
        attempt.progress(None, "starting")
        machine.start(attempt)
    return machine


def _go_down(attempt: Attempt, machine: Machine, request: Reboot) -> None:
    with undone_on_error(attempt, lambda _: _unmark(attempt, machine)):
        if request.mode is RebootMode.SOFT:
            _shut_down(attempt, machine, request.timeout_seconds)
        else:
            machine.stop(attempt)


def _come_up(attempt: Attempt, machine: Machine) -> None:
    """Start what was stopped for the reboot; an interruption comes too late now, going on is what undoes the stop."""
    for last in (False, True):
        try:
            machine.start(attempt)
        except (HypervisorUnreachable, OutcomeUnknown):
            raise
        except OperationError as error:
            if error is attempt.interruption and not last:
                continue
            raise OutcomeUnknown(
                f"{machine.host.node}: {machine.instance} was stopped for the reboot and did not start: {error.message}"
            ) from error
        else:
            return


def _report_save(attempt: Attempt, machine: Machine) -> None:
    attempt.progress(machine.job_percent(), "saving memory")
    attempt.sleep(_LOOK_SECONDS)


def _finished_after_all(attempt: Attempt, machine: Machine) -> bool:
    """Abort a save; whether it was faster."""
    if machine.look().active:
        machine.abort_job(attempt)
    return machine.wait_idle(attempt).power_state is PowerState.SUSPENDED


def _shut_down(attempt: Attempt, machine: Machine, timeout_seconds: float) -> None:
    """Ask the guest to shut down, again and again, until it has or the time is up.

    What the guest was asked cannot be taken back, and the errors say so.
    """
    before = attempt.changes
    try:
        _wait_for_guest(attempt, machine, timeout_seconds)
    except OperationError as error:
        if error is not attempt.interruption or attempt.changes == before:
            raise
        told = f"{error.message}; the guest was asked to shut down and may still do it"
        raise type(error)(told, **error.detail) from error


def _wait_for_guest(attempt: Attempt, machine: Machine, timeout_seconds: float) -> None:
    start = time.monotonic()
    pressed = start - PRESS_AGAIN_SECONDS
    while machine.look().active:
        now = time.monotonic()
        if now - start >= timeout_seconds:
            raise TimedOut(
                f"{machine.host.node}: the guest of {machine.instance} did not shut down within {timeout_seconds:g} s; "
                "it may still do so",
                timeout_seconds=timeout_seconds,
            )
        if now - pressed >= PRESS_AGAIN_SECONDS:
            attempt.progress(None, "waiting for the guest to shut down")
            machine.press_power_button(attempt)
            pressed = now
        attempt.sleep(_LOOK_SECONDS)


def _boot_of(machine: Machine) -> str:
    owner = ownership.read(machine.current())
    return "" if owner is None else owner.boot


def _reached(machine: Machine, look: Look, operation: str) -> bool:
    """Whether the target is reached already; InvalidState when the operation may not act from here."""
    allowed, target = ALLOWED[operation]
    if look.power_state is target:
        return True
    if look.power_state not in allowed:
        raise _invalid(machine, look, operation, sorted(allowed))
    return False


def _invalid(machine: Machine, look: Look, operation: str, allowed: list[PowerState]) -> InvalidState:
    wanted = " or ".join(allowed)
    return InvalidState(
        f"{machine.instance} is {look.power_state}, {operation} needs it {wanted}",
        power_state=look.power_state,
        expected=wanted,
    )
