"""resize: other processors and memory for a stopped instance."""

from __future__ import annotations

from federation.contract.errors import InvalidRequest, InvalidState, NotSupported
from federation.contract.instances import Firmware, Flavour, PowerState
from federation.contract.requests import Resize
from federation_libvirt import domain_xml, facts
from federation_libvirt.attempt import Attempt
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine


def resize(fleet: Fleet, attempt: Attempt, request: Resize) -> Machine:
    """Replace the definition by one with the flavour; one that has it already is left, whatever its state."""
    if request.live:
        raise NotSupported("this driver does not resize a running instance", capability="hot_resize")
    machine = fleet.find(request.instance)
    look = machine.wait_idle(attempt)
    definition = machine.definition()
    if request.flavour.firmware is not Firmware.BIOS:
        raise InvalidRequest(f"{request.instance} has firmware bios; resize cannot change it", field="flavour.firmware")
    if facts.flavour(definition) == _shape(request.flavour):
        return machine
    if look.power_state is not PowerState.STOPPED:
        raise InvalidState(
            f"{request.instance} is {look.power_state}, resize needs it {PowerState.STOPPED}",
            power_state=look.power_state,
            expected=PowerState.STOPPED,
        )
    machine.host.check_size(request.flavour)
    machine.define(attempt, domain_xml.with_flavour(domain_xml.serialise(definition), request.flavour))
    return machine


def _shape(flavour: Flavour) -> tuple[int, int, tuple[int, int, int] | None]:
    shape = flavour.topology
    topology = None if shape is None else (shape.sockets, shape.cores, shape.threads)
    return flavour.vcpus, flavour.memory_bytes, topology
