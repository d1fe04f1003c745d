"""get_console: a ticket for the WebMKS console, which a browser takes to the host itself."""

from __future__ import annotations

from federation.contract.consoles import Console, ConsoleKind
from federation.contract.errors import InvalidState, NotSupported
from federation.contract.instances import PowerState
from federation_vmware.machine import Fleet


def reach(fleet: Fleet, instance: str, kind: ConsoleKind) -> Console:
    """Where the screen of a running machine is; the ticket opens it once, within a minute or so."""
    if kind is not ConsoleKind.WEBMKS or not fleet.settings.webmks_console:
        raise NotSupported(f"console {kind} is not supported by this driver", capability=f"console_{kind}")
    machine = fleet.find(instance)
    look = machine.look()
    if look.power_state is not PowerState.RUNNING:
        raise InvalidState(
            f"{instance} is {look.power_state}, its console needs it {PowerState.RUNNING}",
            power_state=look.power_state,
            expected=PowerState.RUNNING,
        )
    ticket = fleet.connection.read(
        f"get a console ticket for {instance}", lambda s: s.bound(machine.reference).AcquireTicket("webmks")
    )
    host = ticket.host or fleet.settings.host
    port = ticket.port or 443
    return Console(url=f"wss://{host}:{port}/ticket/", ticket=ticket.ticket, machine=look.name)
