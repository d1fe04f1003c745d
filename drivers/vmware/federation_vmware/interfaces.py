"""attach_interface and detach_interface: network cards of a machine, running or stopped."""

from __future__ import annotations

from federation.contract.errors import AlreadyExists, Conflict, InvalidRequest, NotSupported
from federation.contract.instances import InterfaceFacts
from federation.contract.requests import AttachInterface, DetachInterface
from federation.contract.results import InterfaceDetached
from federation_vmware import facts, hardware, names
from federation_vmware.attempt import Attempt
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet


def attach(fleet: Fleet, attempt: Attempt, request: AttachInterface) -> InterfaceFacts:
    """Add a card; one with its MAC address on that network stays."""
    wanted = request.interface
    if wanted.vlan is not None:
        raise NotSupported("vlan is not supported: a port group carries it", capability="vlan")
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    network = fleet.places.network(wanted.network)
    mac = wanted.mac or names.mac_address(attempt.operation, 0)
    present = _shown(fleet, look, mac)
    if present is not None:
        if present.network != network.name:
            raise AlreadyExists(f"{mac} is on {present.network} already", mac=mac, network=present.network)
        return present
    if len(facts.cards(look.devices)) >= hardware.MAX_INTERFACES:
        raise InvalidRequest(
            f"{request.instance} has {hardware.MAX_INTERFACES} interfaces, the most there may be", field="interface"
        )
    card = hardware.card(-1, network, mac)
    machine.reconfigure(attempt, look, f"attach an interface on {network.name} to", devices=[card])
    added = _shown(fleet, machine.look(), mac)
    if added is None:
        raise Conflict(f"the interface {mac} was taken from {request.instance} meanwhile", mac=mac)
    return added


def detach(fleet: Fleet, attempt: Attempt, request: DetachInterface) -> InterfaceDetached:
    """Take the card with that MAC address away; one that is not there stays away."""
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    found = [one for one in facts.cards(look.devices) if str(one.macAddress).lower() == request.mac]
    if found:
        devices = [hardware.removed(one) for one in found]
        machine.reconfigure(attempt, look, f"detach interface {request.mac} from", devices=devices)
    return InterfaceDetached()


def _shown(fleet: Fleet, look: Look, mac: str) -> InterfaceFacts | None:
    shown = fleet.shown(look).interfaces
    return next((one for one in shown if one.mac == mac), None)
