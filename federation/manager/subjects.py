"""What an operation is about, an instance or a node: whether it may be changed now, where it goes, what is written of it."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from federation.contract.capabilities import Capability
from federation.contract.errors import InsufficientResources, InvalidState, NotFound, Parked
from federation.contract.nodes import Node
from federation.contract.operations import Operation
from federation.contract.requests import Adopt, Create, Migrate, Request, Resize
from federation.manager.placement import choose_node
from federation.manager.showing import without_secrets
from federation.manager.store_ports import Transaction
from federation.protocol.admission import without_unknown_flags
from federation.protocol.ordering_key import node_key
from federation.protocol.records import ClusterRecord, InstanceRecord


def known_node(transaction: Transaction, cluster: str, name: str) -> Node:
    """A node as it was reported last; raises NotFound that says which there are."""
    record = transaction.node(cluster, name)
    if record is None:
        known = ", ".join(node.name for node in transaction.nodes(cluster)) or "none yet: is a worker running?"
        message = f"node {name!r} is not known in cluster {cluster!r}; known are: {known}"
        raise NotFound(message, field="node", value=name)
    return node_facts(record.facts)


def node_facts(facts: dict[str, object]) -> Node:
    """A node from the inventory; flags that only a newer release knows are left out."""
    return msgspec.convert(without_unknown_flags(facts), Node)


def place(
    transaction: Transaction, cluster: ClusterRecord, request: Create, needs: Collection[Capability], now: float
) -> Create:
    """Choose the node of a new instance and write its record; returns the request with the node in it."""
    nodes = [node_facts(node.facts) for node in transaction.nodes(cluster.name)]
    node = choose_node(request.spec, nodes, transaction.taken(cluster.name), needs)
    request = msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, node=node))
    spec = request.spec
    transaction.add_instance(
        InstanceRecord(
            id=request.instance,
            name=spec.name,
            cluster=cluster.name,
            node=node,
            vcpus=spec.flavour.vcpus,
            memory_bytes=spec.flavour.memory_bytes,
            spec=without_secrets(msgspec.to_builtins(spec)),
            state="building",
            created_at=now,
            updated_at=now,
        )
    )
    return request


def take_over(transaction: Transaction, cluster: ClusterRecord, request: Adopt, now: float) -> None:
    """Write the record of a machine that is to be adopted; what it takes is known from the outcome."""
    known_node(transaction, cluster.name, request.node)
    transaction.add_instance(
        InstanceRecord(
            id=request.instance,
            name=request.name,
            cluster=cluster.name,
            node=request.node,
            vcpus=0,
            memory_bytes=0,
            spec={},
            state="building",
            created_at=now,
            updated_at=now,
        )
    )


def check_instance(
    transaction: Transaction, cluster: ClusterRecord, instance: InstanceRecord, operation: Operation, request: Request
) -> None:
    """Raise what speaks against changing this instance so: Parked, InvalidState, NotFound, InsufficientResources."""
    if instance.parked_by is not None:
        message = (
            f"instance {instance.name} is parked by operation {instance.parked_by}; "
            f"resolve it first: federation instance resolve {instance.id} --retry | --accept | --abandon"
        )
        raise Parked(message, operation=instance.parked_by)
    if instance.state == "failed" and operation.name != "destroy":
        message = f"instance {instance.name} was never made; it can only be deleted"
        raise InvalidState(message, state=instance.state)
    if isinstance(request, Resize):
        _check_resize(transaction, cluster, instance, request)
    elif isinstance(request, Migrate):
        known_node(transaction, cluster.name, request.node)


def check_node(transaction: Transaction, cluster: ClusterRecord, name: str) -> str:
    """The ordering key of a node that may be changed now; raises NotFound or Parked."""
    known_node(transaction, cluster.name, name)
    key = node_key(cluster.name, name)
    facts = transaction.keys([key]).get(key)
    if facts is not None and facts.parked_by is not None:
        message = (
            f"node {name} of cluster {cluster.name} is parked by operation {facts.parked_by}; resolve it first: "
            f"federation node resolve {name} --cluster {cluster.name} --retry | --accept | --abandon"
        )
        raise Parked(message, operation=facts.parked_by)
    return key


def _check_resize(transaction: Transaction, cluster: ClusterRecord, instance: InstanceRecord, request: Resize) -> None:
    more = request.flavour.memory_bytes - instance.memory_bytes
    record = transaction.node(cluster.name, instance.node)
    if record is None or more <= 0:
        return
    total = node_facts(record.facts).memory_bytes_total
    if total is None:
        return
    free = total - transaction.taken(cluster.name).get(instance.node, (0, 0))[1]
    if more > free:
        message = f"node {instance.node} has {free} bytes of memory free, {more} more are asked for"
        raise InsufficientResources(message)
