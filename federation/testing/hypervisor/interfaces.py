"""attach_interface and detach_interface of the simulated driver."""

from __future__ import annotations

import hashlib

from federation.contract import requests as r
from federation.contract.errors import AlreadyExists, Conflict, InsufficientResources
from federation.contract.instances import InterfaceFacts, PowerState
from federation.contract.results import InterfaceDetached
from federation.testing.hypervisor.records import Machine, interface_facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import Done, require, require_state, step, undoing
from federation.testing.hypervisor.volumes import ask_to_release


def derive_mac(seed: str) -> str:
    """A locally administered address (52:54:00, as QEMU uses) that is the same on every attempt."""
    digest = hashlib.blake2b(seed.encode(), digest_size=3).hexdigest()
    return f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


def attach_interface(session: Session, request: r.AttachInterface) -> InterfaceFacts:
    """One call; without a MAC it follows from the operation's id."""
    asked = request.interface
    mac = asked.mac or derive_mac(session.call.operation)
    with undoing(session):
        machine = require(session)
        there = _find(machine, mac)
        if there is not None and (there.network, there.vlan) != (asked.network, asked.vlan):
            message = f"interface {mac} of {machine.id} is on network {there.network} already, not on {asked.network}"
            raise AlreadyExists(message, mac=mac, network=there.network, instance=machine.id)
        if there is None:
            require_state(machine, "attach_interface", PowerState.RUNNING, PowerState.STOPPED)
            _check_number(session, machine)
            given = {"mac": mac, "network": asked.network, "vlan": asked.vlan}
            step(session, "attach_interface", _has(mac), target=mac, **given)
        machine = require(session)
        made = _find(machine, mac)
        if made is None:
            raise Conflict(f"interface {mac} was taken away meanwhile", mac=mac, instance=machine.id)
        return interface_facts(machine, made)


def detach_interface(session: Session, request: r.DetachInterface) -> InterfaceDetached:
    """One call."""
    with undoing(session):
        machine = require(session)
        if _find(machine, request.mac) is not None:
            require_state(machine, "detach_interface", PowerState.RUNNING, PowerState.STOPPED)
            takes = ask_to_release(session, machine, "detach_interface", request.mac, request.timeout_seconds)
            done = _lacks(request.mac)
            step(session, "detach_interface", done, target=request.mac, seconds=takes, mac=request.mac)
        return InterfaceDetached()


def _check_number(session: Session, machine: Machine) -> None:
    limit = session.hypervisor.settings.limits.max_interfaces
    number = len(machine.interfaces)
    if limit is not None and number >= limit:
        message = f"attach_interface: instance {machine.id} has {number} interfaces, this driver takes at most {limit}"
        raise InsufficientResources(message, wanted=number + 1, limit=limit)


def _find(machine: Machine, mac: str) -> InterfaceFacts | None:
    return next((interface for interface in machine.interfaces if interface.mac == mac), None)


def _has(mac: str) -> Done:
    return lambda machine: machine is not None and _find(machine, mac) is not None


def _lacks(mac: str) -> Done:
    return lambda machine: machine is None or _find(machine, mac) is None
