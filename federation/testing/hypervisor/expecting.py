"""How the simulated hypervisor says no: nothing is changed then."""

from __future__ import annotations

from federation.contract.errors import HypervisorRefused
from federation.testing.hypervisor.records import Machine


def expect(condition: object, machine: Machine, message: str) -> None:
    """Raise HypervisorRefused, naming the machine and its state, unless the condition holds."""
    if not condition:
        raise HypervisorRefused(message, instance=machine.id, power_state=machine.power_state)


def without(machine: Machine, note: str) -> dict[str, str]:
    """The machine's notes without this one."""
    return {name: value for name, value in machine.notes.items() if name != note}
