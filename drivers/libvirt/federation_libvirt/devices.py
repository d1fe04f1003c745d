"""Devices added to a domain and taken from it, running or stopped.

A change is made twice: in the definition on disk, which the next start takes, and in the running domain.  The definition
comes first when something is added and last when something is removed, so it is the note of what is under way.

A running guest has to let go of a device before it is gone.  It is asked again and again: a guest that is still starting
loses the first request (seen with Linux 6.1 on QEMU 7.2).
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

from federation.contract.errors import (
    HypervisorRefused,
    InsufficientResources,
    InvalidState,
    OperationError,
    TimedOut,
)
from federation.contract.instances import PowerState
from federation_libvirt import connection
from federation_libvirt.attempt import Attempt
from federation_libvirt.domain_xml import serialise
from federation_libvirt.facts import Look
from federation_libvirt.machine import Machine

ASK_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.3
_CHANGEABLE = (PowerState.RUNNING, PowerState.PAUSED, PowerState.STOPPED)
# libvirt has no code of its own for it (virDomainPCIAddressGetNextAddr).
_NO_SLOT = "No more available PCI slots"


def check_changeable(machine: Machine, look: Look, operation: str) -> None:
    """Raise InvalidState unless devices may change now: a saved memory or a crashed guest knows the old ones."""
    if look.power_state not in _CHANGEABLE:
        wanted = ", ".join(_CHANGEABLE)
        raise InvalidState(
            f"{machine.instance} is {look.power_state}, {operation} needs it one of: {wanted}",
            power_state=look.power_state,
            expected=wanted,
        )


def add(attempt: Attempt, machine: Machine, device: ET.Element, *, live: bool) -> None:
    """Add a device to the running domain (``live``) or to the definition."""
    text, flags = serialise(device), connection.LIVE if live else connection.CONFIG
    what = f"add a {device.tag} to {machine.instance}"
    try:
        machine.host.link.change(
            attempt, what, lambda c: c.lookupByUUIDString(machine.instance).attachDeviceFlags(text, flags)
        )
    except HypervisorRefused as error:
        if _NO_SLOT in error.message:
            raise InsufficientResources(error.message, **error.detail) from error
        raise


def remove(attempt: Attempt, machine: Machine, device: ET.Element, *, live: bool) -> None:
    """Take a device from the definition, or ask the running guest (``live``) to let go of it."""
    text, flags = serialise(device), connection.LIVE if live else connection.CONFIG
    what = f"take a {device.tag} from {machine.instance}"
    machine.host.link.change(
        attempt, what, lambda c: c.lookupByUUIDString(machine.instance).detachDeviceFlags(text, flags)
    )


def unplug(
    attempt: Attempt, machine: Machine, find: Callable[[ET.Element], ET.Element | None], timeout_seconds: float
) -> None:
    """Ask the running guest to let go of the device that ``find`` finds, until it is gone.

    Raises TimedOut when it has not let go in time.  What the guest was asked cannot be taken back, and errors say so.
    """
    try:
        _ask_until_gone(attempt, machine, find, timeout_seconds)
    except OperationError as error:
        if error is not attempt.interruption or not attempt.changes:
            raise
        told = f"{error.message}; the guest was asked to let go of the device and may still do it"
        raise _retold(attempt, error, told) from error


def _ask_until_gone(
    attempt: Attempt, machine: Machine, find: Callable[[ET.Element], ET.Element | None], timeout_seconds: float
) -> None:
    start = time.monotonic()
    asked, refusal = start - ASK_AGAIN_SECONDS, ""
    while machine.look().active and (device := find(machine.current())) is not None:
        now = time.monotonic()
        if now - start >= timeout_seconds:
            raise TimedOut(
                f"{machine.host.node}: the guest of {machine.instance} did not let go of the {device.tag} within "
                f"{timeout_seconds:g} s; it may still do so{refusal}",
                timeout_seconds=timeout_seconds,
            )
        if now - asked >= ASK_AGAIN_SECONDS:
            attempt.progress(None, "waiting for the guest to let go")
            refusal = _ask(attempt, machine, device, find) or refusal
            asked = now
        else:
            attempt.sleep(_LOOK_SECONDS)


def _ask(
    attempt: Attempt, machine: Machine, device: ET.Element, find: Callable[[ET.Element], ET.Element | None]
) -> str:
    """Ask once; returns why the hypervisor refused, which it does while an earlier request is under way."""
    before = attempt.changes
    try:
        remove(attempt, machine, device, live=True)
    except (HypervisorRefused, InvalidState) as error:
        if error is attempt.interruption or (before == 0 and not attempt.recovering and _there(machine, find)):
            raise
        return f" ({error.message})"
    return ""


def _there(machine: Machine, find: Callable[[ET.Element], ET.Element | None]) -> bool:
    return machine.look().active and find(machine.current()) is not None


def _retold(attempt: Attempt, error: OperationError, told: str) -> OperationError:
    """The same error in more words; it stays what the attempt knows as its interruption."""
    attempt.interruption = type(error)(told, **error.detail)
    return attempt.interruption
