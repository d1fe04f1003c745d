"""set_admin_password and send_nmi of the simulated driver."""

from __future__ import annotations

import hashlib

from federation.contract import requests as r
from federation.contract.instances import PowerState
from federation.contract.results import NmiSent, PasswordSet
from federation.testing.hypervisor.markers import before_of, counted_after, forget, marked_before
from federation.testing.hypervisor.records import Machine
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, require_agent, require_state, step, undoing

ADMINISTRATOR = "root"


def set_admin_password(session: Session, request: r.SetAdminPassword) -> PasswordSet:
    """Two calls: a marker that counts the passwords set so far, then the agent's; only a digest ever leaves this method."""
    with undoing(session, forget("password", _password_sets)):
        machine = require(session)
        if before_of(machine, "password", session.call.operation) is None:
            require_state(machine, "set_admin_password", PowerState.RUNNING)
            require_agent(machine, "set_admin_password")
        done = counted_after(_password_sets, marked_before(session, machine, "password", _password_sets))
        user = request.user or ADMINISTRATOR
        step(session, "set_password", done, user=user, digest=digest_of(machine.id, request.password))
        return PasswordSet()


def send_nmi(session: Session, _request: r.SendNmi) -> NmiSent:
    """Two calls: a marker that counts the interrupts so far, then the interrupt."""
    with undoing(session, forget("nmi", _nmis)):
        machine = require(session)
        if before_of(machine, "nmi", session.call.operation) is None:
            require_state(machine, "send_nmi", PowerState.RUNNING)
        step(session, "inject_nmi", counted_after(_nmis, marked_before(session, machine, "nmi", _nmis)))
        return NmiSent()


def digest_of(instance: str, password: str) -> str:
    """What the hypervisor keeps of a password, so that a test can tell which one was set."""
    return hashlib.scrypt(password.encode(), salt=instance.encode(), n=1 << 10, r=8, p=1, dklen=16).hex()


def _password_sets(machine: Machine) -> int:
    return machine.password_sets


def _nmis(machine: Machine) -> int:
    return machine.nmis
