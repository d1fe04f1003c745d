"""The queries: nodes, instances, and whether the hypervisor answers."""

from __future__ import annotations

import logging
import time

from federation.contract.errors import HypervisorUnreachable, InvalidRequest, NotFound, OperationError, PermissionDenied
from federation.contract.instances import Instance, InstancePage
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.contract.requests import ListInstances
from federation_libvirt import names, ownership
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host

logger = logging.getLogger(__name__)


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
    answers = fleet.everywhere(lambda host: node(fleet, host))
    return NodeList(
        nodes=tuple(
            _silent(name, found) if isinstance(found, OperationError) else found for name, found in answers.items()
        )
    )


def instances(fleet: Fleet, request: ListInstances) -> InstancePage:
    """One page in the order of ids; ``unreachable`` names the nodes that did not answer.

    Raises HypervisorUnreachable when none of the nodes asked answers.
    """
    if request.node is not None and request.node not in fleet.hosts:
        known = ", ".join(fleet.hosts)
        raise InvalidRequest(
            f"node {request.node!r} is not part of cluster {fleet.cluster}; nodes: {known}", field="node"
        )
    hosts = [fleet.hosts[request.node]] if request.node is not None else list(fleet.hosts.values())
    listed, unreachable = _ids(fleet, hosts, request.after)
    found: list[Instance] = []
    for identity, nodes_of in sorted(listed.items()):
        try:
            instance = _instance(fleet, identity, nodes_of)
        except (HypervisorUnreachable, PermissionDenied) as error:
            logger.warning("%s did not answer while instances were listed: %s", ", ".join(nodes_of), error)
            unreachable.update(nodes_of)
            continue
        if instance is not None and (instance.owned or request.foreign):
            found.append(instance)
        if len(found) > request.limit:
            break
    page = tuple(found[: request.limit])
    more = page[-1].id if len(found) > request.limit else None
    return InstancePage(instances=page, next=more, unreachable=tuple(sorted(unreachable)))


def _ids(fleet: Fleet, hosts: list[Host], after: str | None) -> tuple[dict[str, list[str]], set[str]]:
    """The nodes that have each machine, several while it migrates; and the nodes that did not answer."""
    answers = fleet.everywhere(_uuids) if len(hosts) > 1 else {hosts[0].node: _uuids(hosts[0])}
    found: dict[str, list[str]] = {}
    silent = {node: answer for node, answer in answers.items() if isinstance(answer, OperationError)}
    if len(silent) == len(answers):
        told = "; ".join(error.message for error in silent.values())
        raise HypervisorUnreachable(f"no node answers: {told}", nodes=", ".join(silent))
    for node, answer in answers.items():
        for identity in () if isinstance(answer, OperationError) else answer:
            if after is None or identity > after:
                found.setdefault(identity, []).append(node)
    return found, set(silent)


def _uuids(host: Host) -> list[str]:
    return host.link.read("list machines", lambda c: [domain.UUIDString() for domain in c.listAllDomains()])


def _instance(fleet: Fleet, identity: str, nodes: list[str]) -> Instance | None:
    """The facts; None when it has gone since it was listed."""
    try:
        return fleet.among(identity, nodes).instance_facts(fleet.cluster)
    except NotFound:
        return None


def node(fleet: Fleet, host: Host) -> Node:
    """One node that answers, measured now."""
    usage = host.usage()
    storage_total, storage_used = host.disks.space()
    maintenance = names.maintenance_mark(fleet.cluster) in host.disks.volumes()
    return Node(
        name=host.node,
        reachable=True,
        accepts_instances=not maintenance,
        maintenance=maintenance,
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
