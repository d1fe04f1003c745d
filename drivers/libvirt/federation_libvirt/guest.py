"""What is done to the guest itself: its administrator's password, and the non-maskable interrupt.

Both are marked: when it is done, the operation's id is written as ``done`` into our metadata, and a repeat that finds it
there does nothing.  A worker that dies between the act and the mark leaves the act to be done again: setting the same
password again changes nothing; an interrupt may then come twice, because nothing on the host tells whether it was sent.
Only a guest that has crashed meanwhile shows that it came.
"""

from __future__ import annotations

from federation.contract.errors import GuestRefused, HypervisorRefused, InvalidState, OperationError
from federation.contract.instances import PowerState
from federation.contract.requests import SendNmi, SetAdminPassword
from federation.contract.results import NmiSent, PasswordSet
from federation_libvirt.attempt import Attempt
from federation_libvirt.facts import agent_state
from federation_libvirt.faults import code_of
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine, replaced

ADMINISTRATOR = "root"
"""Whose password is set when the request names nobody; the agent on Windows knows no such account: name it there."""

_SILENT = frozenset({"VIR_ERR_AGENT_UNRESPONSIVE", "VIR_ERR_AGENT_UNSYNCED"})


def set_password(fleet: Fleet, attempt: Attempt, request: SetAdminPassword) -> PasswordSet:
    """Let the guest's agent set the password; InvalidState when the guest does not run or no agent answers."""
    machine = fleet.find(request.instance)
    if machine.owner().done == attempt.operation:
        return PasswordSet()
    _check_running(machine, attempt, "set_admin_password")
    if agent_state(machine.current()) != "connected":
        raise _no_agent(request.instance)
    try:
        user = request.user or ADMINISTRATOR
        machine.act(attempt, "set a password in", lambda d: d.setUserPassword(user, request.password, 0))
    except OperationError as error:
        if code_of(error) in _SILENT:
            raise _no_agent(request.instance) from error
        if isinstance(error, HypervisorRefused) and "agent command" in error.message:
            raise GuestRefused(error.message, **error.detail) from error
        raise
    _mark(machine, attempt)
    return PasswordSet()


def send_nmi(fleet: Fleet, attempt: Attempt, request: SendNmi) -> NmiSent:
    """Send the interrupt to every processor; InvalidState when the guest does not run."""
    machine = fleet.find(request.instance)
    if machine.owner().done == attempt.operation:
        return NmiSent()
    if not (attempt.recovering and machine.wait_idle(attempt).power_state is PowerState.CRASHED):
        _check_running(machine, attempt, "send_nmi")
        machine.act(attempt, "send an interrupt to", lambda d: d.injectNMI(0))
    _mark(machine, attempt)
    return NmiSent()


def _check_running(machine: Machine, attempt: Attempt, operation: str) -> None:
    look = machine.wait_idle(attempt)
    if look.power_state is not PowerState.RUNNING:
        raise InvalidState(
            f"{machine.instance} is {look.power_state}, {operation} needs it {PowerState.RUNNING}",
            power_state=look.power_state,
            expected=PowerState.RUNNING,
        )


def _mark(machine: Machine, attempt: Attempt) -> None:
    machine.write_owner(attempt, replaced(machine.owner(), done=attempt.operation), live=False)


def _no_agent(instance: str) -> InvalidState:
    return InvalidState(
        f"no guest agent answers in {instance}: install and start qemu-guest-agent in the guest", expected="guest agent"
    )
