"""adopt: our note is written on a machine that others made; nothing else is changed, and it is not restarted."""

from __future__ import annotations

from federation.contract.errors import AlreadyExists, InvalidState, NotFound
from federation.contract.requests import Adopt
from federation_vmware.attempt import Attempt
from federation_vmware.machine import Fleet, Machine
from federation_vmware.ownership import Ownership, Stage


def adopt(fleet: Fleet, attempt: Attempt, request: Adopt) -> Machine:
    """Take over the machine on the node that the request names.

    Raises NotFound when it is not there, AlreadyExists when it is adopted under another name or the name is taken,
    InvalidState when it belongs to another cluster of the federation.
    """
    wanted = fleet.places.host(request.node)
    found = fleet.find_any(request.instance)
    node = None if found is None else fleet.places.node_of(found[1].host)
    if found is None or node != wanted.name:
        where = "nowhere on this cluster" if node is None else f"on {node}"
        raise NotFound(f"machine {request.instance} is not on {request.node}, it is {where}", node=request.node)
    machine, look = found
    owner = look.owner(fleet.cluster)
    if owner is not None:
        known = owner.name or look.name
        if known != request.name:
            raise AlreadyExists(f"{request.instance} belongs to this cluster already, as {known}", name=known)
        return machine
    note = look.note
    if note is not None and note.instance == look.id:
        raise InvalidState(
            f"{request.instance} belongs to cluster {note.cluster}; take it out there first", cluster=note.cluster
        )
    taken = fleet.node_of_name(request.name, request.instance)
    if taken is not None:
        raise AlreadyExists(f"{taken} has a machine named {request.name} already", name=request.name)
    owner = Ownership(
        cluster=fleet.cluster,
        instance=request.instance,
        operation=attempt.operation,
        stage=Stage.COMPLETE,
        name=request.name,
        metadata=request.metadata,
    )
    machine.reconfigure(attempt, look, "adopt", owner=owner)
    return machine
