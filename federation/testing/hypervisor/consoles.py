"""get_console of the simulated driver: places where nobody listens, in the form of the real ones."""

from __future__ import annotations

import datetime as dt
import hashlib

from federation.contract import requests as r
from federation.contract.consoles import Console, ConsoleKind
from federation.contract.instances import PowerState
from federation.testing.hypervisor.queries import find_machine, require_ours
from federation.testing.hypervisor.records import Machine
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require_state

TICKET_SECONDS = 300
_SLOTS = 1000
_FIRST_PORT = {ConsoleKind.VNC: 5900, ConsoleKind.SPICE: 6900, ConsoleKind.SERIAL: 7900}
_RDP_PORT = 2179
"""Where a Hyper-V host serves the screens of all its machines."""


def get_console(session: Session, request: r.GetConsole) -> Console:
    """Host and port that follow from the machine's id; tickets and passwords from its id and its boots."""
    machine = find_machine(session, request.instance)
    require_ours(machine)
    require_state(machine, "get_console", PowerState.RUNNING, PowerState.PAUSED)
    kind, host = request.kind, _host(session, machine.node)
    if kind is ConsoleKind.RDP:
        return Console(host=host, port=_RDP_PORT, machine=machine.id)
    expires = dt.datetime.fromtimestamp(session.hypervisor.clock.wall() + TICKET_SECONDS, dt.UTC)
    if kind is ConsoleKind.WEBMKS:
        ticket = _derived(machine, "ticket").hex()
        return Console(url=f"wss://{host}:443/ticket/{ticket}", ticket=ticket, expires_at=expires)
    port = _FIRST_PORT[kind] + int.from_bytes(_derived(machine, "slot")[:2]) % _SLOTS
    if kind is ConsoleKind.SERIAL:
        return Console(host=host, port=port)
    password = _derived(machine, kind).hex()[:8]
    tls_port = port + _SLOTS * 3 if kind is ConsoleKind.SPICE else None
    return Console(host=host, port=port, tls_port=tls_port, password=password, expires_at=expires)


def _host(session: Session, node: str) -> str:
    given = next((one for one in session.hypervisor.settings.inventory() if one.name == node), None)
    return given.addresses[0] if given and given.addresses else node


def _derived(machine: Machine, what: str) -> bytes:
    return hashlib.blake2b(f"{machine.id}:{machine.boots}:{what}".encode(), digest_size=16).digest()
