"""Reads of the whole cluster: probe, list_nodes, list_instances."""

from __future__ import annotations

from collections.abc import Iterable

from federation.contract.errors import HypervisorUnreachable, InvalidRequest, NotFound, PermissionDenied
from federation.contract.instances import Instance, InstancePage, PowerState
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.contract.requests import ListInstances
from federation_vmware import facts, maintenance
from federation_vmware.connection import measured
from federation_vmware.facts import Look
from federation_vmware.machine import Fleet
from federation_vmware.places import Place

_MIB = 1 << 20


def probe(fleet: Fleet) -> ProbeReport:
    """Ask vCenter what it is, in the session that everything else uses."""
    try:
        name, seconds = measured(
            lambda: fleet.connection.read("probe", lambda s: str(s.content.about.fullName) if _alive(s) else "")
        )
    except (HypervisorUnreachable, PermissionDenied) as error:
        return ProbeReport(reachable=False, seconds=0.0, message=error.message)
    return ProbeReport(reachable=True, seconds=seconds, hypervisor=name)


def _alive(session: object) -> bool:
    manager = session.content.sessionManager  # type: ignore[attr-defined]  # a Session
    return manager.currentSession is not None


def nodes(fleet: Fleet) -> NodeList:
    """Every host of the cluster: what it has, and what its machines use."""
    looks = fleet.looks()
    hosts = fleet.places.hosts()
    datastore = fleet.places.datastore()
    return NodeList(nodes=tuple(_node(fleet, host, datastore, looks) for host in hosts.values()))


def node(fleet: Fleet, name: str) -> Node:
    """One host."""
    return _node(fleet, fleet.places.host(name), fleet.places.datastore(), fleet.looks())


def _node(fleet: Fleet, host: Place, datastore: Place, looks: Iterable[Look]) -> Node:
    here = [look for look in looks if look.host == facts.object_id(host.reference)]
    running = [look for look in here if look.power_state is PowerState.RUNNING]
    connection = str(host.found.get("runtime.connectionState", ""))
    kept_out = maintenance.is_on(fleet, host)
    theirs = bool(host.found.get("runtime.inMaintenanceMode", False))
    threads, memory = (_number(host, f"summary.hardware.{name}") for name in ("numCpuThreads", "memorySize"))
    capacity, free = (_number(datastore, f"summary.{name}") for name in ("capacity", "freeSpace"))
    connected = connection == "connected"
    return Node(
        name=host.name,
        reachable=connected,
        accepts_instances=connected and not kept_out and not theirs,
        vcpus_total=None if threads is None else int(threads * fleet.settings.vcpu_overcommit),
        vcpus_used=sum(int(look.found.get("config.hardware.numCPU", 0)) for look in running),
        memory_bytes_total=None if memory is None else max(0, memory - fleet.settings.reserved_memory_bytes),
        memory_bytes_used=sum(int(look.found.get("config.hardware.memoryMB", 0)) for look in running) * _MIB,
        storage_bytes_total=capacity,
        storage_bytes_used=None if capacity is None or free is None else capacity - free,
        instances=len(here),
        hypervisor=str(host.found.get("summary.config.product.fullName", "")),
        message="in vSphere's maintenance mode" if theirs else "" if connected else f"vCenter says: {connection}",
        maintenance=kept_out,
    )


def _number(place: Place, path: str) -> int | None:
    """PyVmomi's numbers are of types of its own."""
    value = place.found.get(path)
    return None if value is None else int(value)


def instances(fleet: Fleet, request: ListInstances) -> InstancePage:
    """A page of the machines, in the order of their ids."""
    if request.node is not None:
        try:
            fleet.places.host(request.node)
        except NotFound as error:
            raise InvalidRequest(error.message, field="node", value=request.node) from error
    chosen = [
        look
        for look in fleet.looks()
        if look.id
        and (request.after is None or look.id > request.after)
        and (request.foreign or look.owner(fleet.cluster) is not None)
        and (request.node is None or fleet.places.node_of(look.host) == request.node)
    ]
    wanted = chosen[: request.limit]
    looks = {look.id: look for look in fleet.complete(wanted)}
    page: tuple[Instance, ...] = tuple(fleet.shown(looks[look.id]) for look in wanted if look.id in looks)
    return InstancePage(instances=page, next=wanted[-1].id if len(chosen) > request.limit else None)
