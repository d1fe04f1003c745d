"""get_console: Hyper-V's own RDP listener serves the screens of all machines of a host, each by Hyper-V's id of it.

The listener is that of vmms (port 2179); a client names the machine in the preconnection blob (``vmconnect`` of FreeRDP) and
logs in with an account of its own.
"""

from __future__ import annotations

from federation.contract.consoles import Console, ConsoleKind
from federation.contract.errors import InvalidState, NotSupported
from federation_hyperv.fleet import Fleet


def reach(fleet: Fleet, instance: str, kind: ConsoleKind) -> Console:
    """Where the screen is; InvalidState when the machine does not run."""
    machine = fleet.see(instance)
    if kind is not ConsoleKind.RDP:
        raise NotSupported(f"Hyper-V has no console {kind}, only rdp", capability=f"console_{kind}")
    if not machine.active:
        raise InvalidState(
            f"{machine.name} is {machine.power_state}; it has no screen", power_state=machine.power_state
        )
    host = machine.host.settings
    return Console(host=host.console_address or host.address, port=host.console_port, machine=machine.guid.lower())
