"""resize: other processors and memory for a stopped instance."""

from __future__ import annotations

from federation.contract.errors import InvalidRequest, InvalidState, NotSupported
from federation.contract.instances import PowerState
from federation.contract.requests import Resize
from federation_hyperv import facts, msvm
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.inventory import check_flavour
from federation_hyperv.machine import Machine


def resize(fleet: Fleet, attempt: Attempt, request: Resize) -> Machine:
    """Change both in one call; a stopped machine that has the flavour already is left.

    Dynamic memory stays dynamic, down to what it was.
    """
    if request.live:
        raise NotSupported("this driver resizes stopped instances only", capability="hot_resize")
    machine = fleet.find(request.instance)
    state = machine.wait_idle(attempt)
    parts, flavour = machine.devices(), request.flavour
    if flavour.topology is not None:
        raise NotSupported("Hyper-V shows processors as it likes", capability="cpu_topology")
    if flavour.firmware is not facts.firmware(parts):
        told = f"{request.instance} has firmware {facts.firmware(parts)}; resize cannot change it"
        raise InvalidRequest(told, field="flavour.firmware")
    if state is not PowerState.STOPPED:
        raise InvalidState(
            f"{request.instance} is {state}, resize needs it {PowerState.STOPPED}",
            power_state=state,
            expected=PowerState.STOPPED,
        )
    if facts.size(parts) == (flavour.vcpus, flavour.memory_bytes):
        return machine
    check_flavour(machine.host, flavour)
    dynamic = bool(parts.memory.get("DynamicMemoryEnabled"))
    minimum = int(parts.memory.get("Reservation") or 0) if dynamic else None
    machine.change(
        attempt, "processors and memory",
        [
            msvm.processors(str(parts.processor["InstanceID"]), flavour),
            msvm.memory(str(parts.memory["InstanceID"]), flavour, minimum),
        ],
    )  # fmt: skip
    return machine
