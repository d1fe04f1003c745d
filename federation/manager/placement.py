"""Which node gets a new instance: filter by health and free resources, then weigh.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from federation.contract.capabilities import Capability
from federation.contract.errors import InsufficientResources, NotFound
from federation.contract.instances import InstanceSpec
from federation.contract.nodes import Node


def free_memory_bytes(node: Node, taken: Mapping[str, tuple[int, int]]) -> int | None:
    """What a new instance may take: the hypervisor's view or ours, whichever leaves less; None when nobody knows."""
    if node.memory_bytes_total is None:
        return None
    return node.memory_bytes_total - max(node.memory_bytes_used or 0, taken.get(node.name, (0, 0))[1])


def choose_node(
    spec: InstanceSpec,
    nodes: Iterable[Node],
    taken: Mapping[str, tuple[int, int]],
    needs: Collection[Capability] = (),
) -> str:
    """Return the node's name; raise NotFound or InsufficientResources that says why each node was left out.

    ``needs`` are flags that the node must not lack.  Of those that fit, the one with the most free memory wins; ties go to the first by name.
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
        refusal = _refusal(spec, node, taken, needs)
        if refusal is None:
            fitting.append((-(free_memory_bytes(node, taken) or 0), node.name))
        else:
            refusals.append(f"{node.name}: {refusal}")
    if not fitting:
        why = "; ".join(refusals) if refusals else "no node is known yet: is a worker running?"
        message = f"no node can take {spec.flavour.vcpus} vCPUs and {spec.flavour.memory_bytes} bytes of memory ({why})"
        raise InsufficientResources(message)
    return min(fitting)[1]


def _refusal(
    spec: InstanceSpec, node: Node, taken: Mapping[str, tuple[int, int]], needs: Collection[Capability]
) -> str | None:
    if not node.reachable:
        return f"not reachable {node.message}".strip()
    if node.maintenance or not node.accepts_instances:
        return "is in maintenance" if node.maintenance else "does not accept instances"
    lacking = sorted(node.lacks & set(needs))
    if lacking:
        return f"lacks {', '.join(lacking)}"
    return _too_small(spec, node, free_memory_bytes(node, taken))


def _too_small(spec: InstanceSpec, node: Node, free: int | None) -> str | None:
    if free is None:
        return "does not say how much memory it has"
    if spec.flavour.memory_bytes > free:
        return f"{max(free, 0)} bytes of memory free"
    if node.vcpus_total is not None and spec.flavour.vcpus > node.vcpus_total:
        return f"{node.vcpus_total} processors in all"
    return None
