"""The queries: nodes, instances, and whether the hosts answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from federation.contract.capabilities import Capability
from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    InsufficientResources,
    InvalidRequest,
    OperationError,
)
from federation.contract.instances import Flavour, Instance, InstancePage, PowerState
from federation.contract.nodes import Node, NodeList, ProbeReport
from federation.contract.requests import ListInstances
from federation_hyperv import facts, names
from federation_hyperv.cim import CIMV2
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import Host
from federation_hyperv.machine import store_of

logger = logging.getLogger(__name__)

_STEP_BYTES, _LEAST_BYTES = 2 << 20, 32 << 20
NEED_A_MOUNT = frozenset({Capability.BOOT_IMAGE, Capability.USER_DATA, Capability.CAPTURE_UPLOAD})
"""What a host lacks whose folder the worker does not see."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host can give to instances: real processors, and bytes of memory."""

    processors: int
    memory_bytes: int


def capacity(host: Host) -> Capacity:
    """Measure a host."""
    found = host.select("Win32_ComputerSystem", namespace=CIMV2)
    if not found:
        raise HypervisorRefused(f"{host.node} does not say what it has (Win32_ComputerSystem)")
    memory = int(found[0]["TotalPhysicalMemory"] or 0) - host.all.reserved_memory_bytes
    return Capacity(int(found[0]["NumberOfLogicalProcessors"] or 0), max(memory, 0))


def check_flavour(host: Host, flavour: Flavour) -> None:
    """Raise InvalidRequest for sizes that Hyper-V does not know, InsufficientResources for what the host never has."""
    if flavour.memory_bytes % _STEP_BYTES or flavour.memory_bytes < _LEAST_BYTES:
        told = f"memory is {flavour.memory_bytes} bytes; Hyper-V gives it in steps of 2 MiB, 32 MiB at least"
        raise InvalidRequest(told, field="flavour.memory_bytes")
    given = capacity(host)
    if flavour.memory_bytes > given.memory_bytes:
        told = (
            f"{host.node} has {given.memory_bytes} bytes of memory for instances, {flavour.memory_bytes} are asked for"
        )
        raise InsufficientResources(told, node=host.node)
    if flavour.vcpus > given.processors:
        told = f"{host.node} has {given.processors} processors, and no machine gets more; {flavour.vcpus} are asked for"
        raise InsufficientResources(told, node=host.node)


def version(host: Host) -> str:
    """Windows' own name and version."""
    found = host.select("Win32_OperatingSystem", namespace=CIMV2)
    system = found[0].properties if found else {}
    return f"{system.get('Caption') or 'Windows'} {system.get('Version') or ''}".strip()


def probe(fleet: Fleet) -> ProbeReport:
    """Whether any host answers; the message names those that do not."""
    start = time.monotonic()
    answers = fleet.everywhere(version)
    silent = [answer.message for answer in answers.values() if isinstance(answer, OperationError)]
    versions = sorted({answer for answer in answers.values() if isinstance(answer, str)})
    return ProbeReport(
        reachable=bool(versions),
        seconds=time.monotonic() - start,
        hypervisor="; ".join(versions),
        message="; ".join(silent),
    )


def nodes(fleet: Fleet) -> NodeList:
    """Every node; one that does not answer has ``reachable`` false and says why."""
    answers = fleet.everywhere(lambda host: node(fleet, host))
    return NodeList(
        nodes=tuple(
            Node(name=name, reachable=False, accepts_instances=False, message=found.message)
            if isinstance(found, OperationError)
            else found
            for name, found in answers.items()
        )
    )


def instances(fleet: Fleet, request: ListInstances) -> InstancePage:
    """One page in the order of ids; ``unreachable`` names the nodes that did not answer.

    A host is asked the same number of questions whatever it holds.  Raises HypervisorUnreachable when none of the nodes
    asked answers.
    """
    if request.node is not None and request.node not in fleet.hosts:
        known = ", ".join(fleet.hosts)
        raise InvalidRequest(
            f"node {request.node!r} is not part of cluster {fleet.cluster}; nodes: {known}", field="node"
        )
    if request.node is None:
        answers = fleet.everywhere(lambda host: _listed(fleet, host, request))
    else:
        answers = {request.node: _listed(fleet, fleet.hosts[request.node], request)}
    silent = {name: answer for name, answer in answers.items() if isinstance(answer, OperationError)}
    if len(silent) == len(answers):
        told = "; ".join(error.message for error in silent.values())
        raise HypervisorUnreachable(f"no node answers: {told}", nodes=", ".join(silent))
    by_id: dict[str, Instance] = {}
    for answer in answers.values():
        for one in () if isinstance(answer, OperationError) else answer:
            if one.id not in by_id or one.owned:
                by_id[one.id] = one
    found = [by_id[identity] for identity in sorted(by_id)]
    page = tuple(found[: request.limit])
    more = page[-1].id if len(found) > request.limit else None
    return InstancePage(instances=page, next=more, unreachable=tuple(sorted(silent)))


def _listed(fleet: Fleet, host: Host, request: ListInstances) -> list[Instance]:
    """The host's instances behind ``after``, one more than are asked for at least where there are so many."""
    heads = {facts.instance_of(one, fleet.cluster): one for one in host.heads() if request.foreign or fleet.owns(one)}
    wanted = [identity for identity in sorted(heads) if request.after is None or identity > request.after]
    parts = [heads[identity] for identity in wanted[: request.limit + 1]]
    if not parts:
        return []
    host.fill(parts)
    switches = host.switches() if any(one.connections for one in parts) else {}
    return [facts.instance(one, host.node, fleet.cluster, host.pools, switches) for one in parts]


def node(fleet: Fleet, host: Host) -> Node:
    """One node that answers, measured now.

    Of processors the running machines' are in use; of memory what they may take.
    """
    given = capacity(host)
    heads = host.heads()
    running = [one for one in heads if facts.power_state(one) in {PowerState.RUNNING, PowerState.PAUSED}]
    host.fill_sizes(running)
    sizes = [facts.size(one) for one in running]
    store = store_of(host)
    total, used = store.space()
    maintenance = names.maintenance_mark(fleet.cluster) in store.files()
    return Node(
        name=host.node,
        reachable=True,
        accepts_instances=not maintenance,
        maintenance=maintenance,
        vcpus_total=int(given.processors * fleet.settings.vcpu_overcommit),
        vcpus_used=sum(vcpus or 0 for vcpus, _ in sizes),
        memory_bytes_total=given.memory_bytes,
        memory_bytes_used=sum(memory or 0 for _, memory in sizes),
        storage_bytes_total=total,
        storage_bytes_used=used,
        instances=sum(fleet.owns(one) for one in heads),
        hypervisor=version(host),
        lacks=frozenset() if store.mounted else NEED_A_MOUNT,
        addresses=(host.settings.address,),
    )
