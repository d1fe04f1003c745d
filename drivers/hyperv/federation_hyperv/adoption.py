"""adopt: our note is written on a machine that others made; nothing else is changed, and it is not restarted.

``adopt`` never touches its disks, and ``destroy`` later removes only files that bear the instance's id: disks that we did
not make outlive it.
"""

from __future__ import annotations

import logging

from federation.contract.errors import AlreadyExists, HypervisorRefused, InvalidState, NotFound
from federation.contract.requests import Adopt
from federation_hyperv import facts
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.machine import Machine
from federation_hyperv.notes import Note, Stage

logger = logging.getLogger(__name__)


def adopt(fleet: Fleet, attempt: Attempt, request: Adopt) -> Machine:
    """Take over the machine on the node that the request names.

    Raises NotFound when it is not there, AlreadyExists when it is adopted under another name or the name is taken,
    InvalidState when it belongs to another cluster.
    """
    machine = fleet.find_any(request.instance)
    host = fleet.host(request.node)
    if machine is None or machine.host is not host:
        where = "nowhere on this cluster" if machine is None else f"on {machine.host.node}"
        raise NotFound(f"machine {request.instance} is not on {request.node}, it is {where}", node=request.node)
    note = machine.parts.note
    if note is not None and fleet.owns(machine.parts):
        known = note.name or str(machine.parts.settings.get("ElementName") or "")
        if known != request.name:
            raise AlreadyExists(f"{request.instance} belongs to this cluster already, as {known}", name=known)
        return machine
    if note is not None and note.cluster != fleet.cluster:
        raise InvalidState(f"{request.instance} belongs to cluster {note.cluster}; take it out there first")
    taken = fleet.node_of_name(request.name, request.instance)
    if taken is not None:
        raise AlreadyExists(f"{taken} has a machine named {request.name} already", name=request.name)
    machine.write_note(
        attempt,
        Note(
            cluster=fleet.cluster, instance=request.instance, operation=attempt.operation, stage=Stage.COMPLETE,
            name=request.name, metadata=request.metadata, disks=_disk_sizes(machine),
        ),
    )  # fmt: skip
    return machine


def _disk_sizes(machine: Machine) -> dict[str, int]:
    """Bytes by name, of the disks whose size the host can tell."""
    sizes = {}
    for slot in facts.slots(machine.devices()):
        if slot.file and not slot.dvd:
            try:
                sizes[slot.name] = machine.store.size(slot.file)
            except HypervisorRefused as error:
                logger.warning("the size of disk %s of %s stays unknown: %s", slot.name, machine.instance, error)
    return sizes
