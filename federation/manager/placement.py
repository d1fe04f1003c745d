"""Which node gets a new instance: filter by health and free resources, then weigh.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.contract.errors import InsufficientResources, NotFound
from federation.contract.instances import InstanceSpec
from federation.contract.nodes import Node


def free_memory_bytes(node: Node, taken: Mapping[str, tuple[int, int]]) -> int:
    """What a new instance may take: the hypervisor's view or ours, whichever leaves less."""
    return node.memory_bytes_total - max(node.memory_bytes_used, taken.get(node.name, (0, 0))[1])


def choose_node(spec: InstanceSpec, nodes: Iterable[Node], taken: Mapping[str, tuple[int, int]]) -> str:
    """Return the node's name; raise NotFound or InsufficientResources that says why each node was left out.

    Of those that fit, the one with the most free memory wins; ties go to the first by name.
    """
    candidates = sorted(nodes, key=lambda node: node.name)
    if spec.node is not None:
        candidates = [node for node in candidates if node.name == spec.node]
        if not candidates:
            message = f"node {spec.node!r} is not known in this cluster"
            raise NotFound(message, field="node", value=spec.node)
    refusals: list[str] = []
    fitting: list[tuple[int, str]] = []
    for node in candidates:
        refusal = _refusal(spec, node, taken)
        if refusal is None:
            fitting.append((-free_memory_bytes(node, taken), node.name))
        else:
            refusals.append(f"{node.name}: {refusal}")
    if not fitting:
        why = "; ".join(refusals) if refusals else "no node is known yet: is a worker running?"
        message = f"no node can take {spec.flavour.vcpus} vCPUs and {spec.flavour.memory_bytes} bytes of memory ({why})"
        raise InsufficientResources(message)
    return min(fitting)[1]


def _refusal(spec: InstanceSpec, node: Node, taken: Mapping[str, tuple[int, int]]) -> str | None:
    if not node.reachable:
        return f"not reachable {node.message}".strip()
    if not node.accepts_instances:
        return "does not accept instances"
    free = free_memory_bytes(node, taken)
    if spec.flavour.memory_bytes > free:
        return f"{max(free, 0)} bytes of memory free"
    if spec.flavour.vcpus > node.vcpus_total:
        return f"{node.vcpus_total} processors in all"
    return None
