"""adopt: our metadata is written on a machine that others made; nothing else is changed, and it is not restarted.

``adopt`` never touches its disks, and ``destroy`` later removes only volumes that bear the instance's id: disks that we did
not make outlive it.
"""

from __future__ import annotations

import logging
from functools import partial

from federation.contract.errors import AlreadyExists, HypervisorRefused, InvalidRequest, InvalidState, NotFound
from federation.contract.requests import Adopt
from federation_libvirt import facts, ownership
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Native
from federation_libvirt.fleet import Fleet
from federation_libvirt.machine import Machine
from federation_libvirt.ownership import Ownership, Stage

logger = logging.getLogger(__name__)


def adopt(fleet: Fleet, attempt: Attempt, request: Adopt) -> Machine:
    """Take over the machine on the node that the request names.

    Raises NotFound when it is not there, AlreadyExists when it is adopted under another name or the name is taken,
    InvalidState when it belongs to another cluster or would be gone once it stops (a transient domain).
    """
    machine = _found(fleet, request)
    owner = ownership.read(machine.definition())
    if owner is not None and owner.cluster == fleet.cluster and owner.instance == request.instance:
        known = owner.name or machine.definition().findtext("name", "")
        if known != request.name:
            raise AlreadyExists(f"{request.instance} belongs to this cluster already, as {known}", name=known)
        return machine
    if owner is not None:
        raise InvalidState(
            f"{request.instance} belongs to cluster {owner.cluster}; take it out there first", cluster=owner.cluster
        )
    _check_adoptable(fleet, machine, request)
    owner = _ownership(fleet, attempt, machine, request)
    # libvirt writes the running domain first, then the definition: a repeat that finds the second finds both.
    machine.write_owner(attempt, owner, live=machine.look().active)
    return machine


def _found(fleet: Fleet, request: Adopt) -> Machine:
    machine = fleet.find_any(request.instance)
    if machine is None or machine.host.node != fleet.host(request.node).node:
        where = "nowhere on this cluster" if machine is None else f"on {machine.host.node}"
        raise NotFound(f"machine {request.instance} is not on {request.node}, it is {where}", node=request.node)
    return machine


def _check_adoptable(fleet: Fleet, machine: Machine, request: Adopt) -> None:
    if not machine.ask("look at", lambda d: d.isPersistent()):
        raise InvalidState(
            f"{request.instance} is transient: it would be gone once it stops; define it first (virsh define)",
            expected="persistent",
        )
    taken = fleet.node_of_name(request.name, request.instance)
    if taken is not None:
        raise AlreadyExists(f"{taken} has a machine named {request.name} already", name=request.name)


def _ownership(fleet: Fleet, attempt: Attempt, machine: Machine, request: Adopt) -> Ownership:
    return Ownership(
        cluster=fleet.cluster,
        instance=request.instance,
        operation=attempt.operation,
        stage=Stage.COMPLETE,
        name=request.name,
        metadata=request.metadata,
        disks=_disk_sizes(machine),
    )


def _disk_sizes(machine: Machine) -> dict[str, int]:
    """Bytes by target device, of the disks whose size the node can tell (an empty drive has none)."""
    sizes = {}
    for name in facts.disk_names(machine.current()):
        try:
            sizes[name] = machine.ask("measure a disk of", partial(_size_of_disk, name))
        except (HypervisorRefused, InvalidRequest) as error:
            logger.warning("the size of disk %s of %s stays unknown: %s", name, machine.instance, error)
    return sizes


def _size_of_disk(name: str, domain: Native) -> int:
    return int(domain.blockInfo(name)[0])
