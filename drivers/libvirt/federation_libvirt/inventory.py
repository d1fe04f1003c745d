"""The queries: nodes, instances, and whether the hypervisor answers."""

from __future__ import annotations

import time

from federation.contract.errors import HypervisorUnreachable, InvalidRequest, NotFound, OperationError
from federation.contract.instances import Instance, InstancePage
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.contract.requests import ListInstances
from federation_libvirt import ownership
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host
from federation_libvirt.machine import Machine


def probe(fleet: Fleet) -> ProbeReport:
    """Whether any host answers; the message names those that do not."""
    start = time.monotonic()
    answers = fleet.everywhere(Host.versions)
    silent = [answer.message for answer in answers.values() if isinstance(answer, OperationError)]
    versions = sorted({answer for answer in answers.values() if isinstance(answer, str)})
    return ProbeReport(
        reachable=bool(versions),
        seconds=time.monotonic() - start,
        hypervisor="; ".join(versions),
        message="; ".join(silent),
    )


def nodes(fleet: Fleet) -> NodeList:
    """Every node; one that does not answer has ``reachable`` false and says why.

    A node whose storage pool is not there yet (the first create makes it) shows no storage: a query changes nothing.
    """
    answers = fleet.everywhere(lambda host: _node(fleet, host))
    return NodeList(
        nodes=tuple(
            _silent(name, found) if isinstance(found, OperationError) else found for name, found in answers.items()
        )
    )


def instances(fleet: Fleet, request: ListInstances) -> InstancePage:
    """One page in the order of ids.

    Raises HypervisorUnreachable when a host does not answer: a list without its instances would look as if they were
    gone.
    """
    if request.node is not None and request.node not in fleet.hosts:
        known = ", ".join(fleet.hosts)
        raise InvalidRequest(
            f"node {request.node!r} is not part of cluster {fleet.cluster}; nodes: {known}", field="node"
        )
    hosts = [fleet.hosts[request.node]] if request.node is not None else list(fleet.hosts.values())
    found: list[Instance] = []
    for identity, node in _ids(fleet, hosts, request.after):
        instance = _instance(fleet, fleet.hosts[node], identity)
        if instance is not None and (instance.owned or request.foreign):
            found.append(instance)
        if len(found) > request.limit:
            break
    page = tuple(found[: request.limit])
    return InstancePage(instances=page, next=page[-1].id if len(found) > request.limit else None)


def _ids(fleet: Fleet, hosts: list[Host], after: str | None) -> list[tuple[str, str]]:
    answers = fleet.everywhere(_uuids) if len(hosts) > 1 else {hosts[0].node: _uuids(hosts[0])}
    pairs = []
    for node, answer in answers.items():
        if isinstance(answer, OperationError):
            raise HypervisorUnreachable(f"{node} does not answer: {answer.message}", node=node) from answer
        pairs += [(identity, node) for identity in answer if after is None or identity > after]
    return sorted(pairs)


def _uuids(host: Host) -> list[str]:
    return host.link.read("list machines", lambda c: [domain.UUIDString() for domain in c.listAllDomains()])


def _instance(fleet: Fleet, host: Host, identity: str) -> Instance | None:
    """The facts; None when it has gone since it was listed."""
    try:
        return Machine(host, identity).instance_facts(fleet.cluster)
    except NotFound:
        return None


def _node(fleet: Fleet, host: Host) -> Node:
    usage = host.usage()
    storage_total, storage_used = host.disks.space()
    return Node(
        name=host.node,
        reachable=True,
        accepts_instances=True,
        vcpus_total=int(usage.processors * fleet.settings.vcpu_overcommit),
        vcpus_used=usage.vcpus_used,
        memory_bytes_total=max(usage.memory_total - fleet.settings.reserved_memory_bytes, 0),
        memory_bytes_used=usage.memory_used,
        storage_bytes_total=storage_total,
        storage_bytes_used=storage_used,
        instances=sum(ownership.cluster_of(text) == fleet.cluster for text in host.marks()),
        hypervisor=host.versions(),
    )


def _silent(name: str, error: OperationError) -> Node:
    return Node(
        name=name,
        reachable=False,
        accepts_instances=False,
        vcpus_total=0,
        vcpus_used=0,
        memory_bytes_total=0,
        memory_bytes_used=0,
        storage_bytes_total=0,
        storage_bytes_used=0,
        instances=0,
        message=error.message,
    )
