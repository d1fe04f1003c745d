"""Nodes and drivers: what a cluster consists of and who drives it."""

from __future__ import annotations

import msgspec

from federation.contract.capabilities import Capabilities, Capability


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One hypervisor host: what it has, what is in use, whether it answers; ``message`` says why it does not.

    Figures are None where nobody knows them, as of a node that does not answer; storage is that of new instances' disks.
    """

    name: str
    reachable: bool
    accepts_instances: bool
    vcpus_total: int | None = None
    vcpus_used: int | None = None
    memory_bytes_total: int | None = None
    memory_bytes_used: int | None = None
    storage_bytes_total: int | None = None
    storage_bytes_used: int | None = None
    instances: int | None = None
    hypervisor: str = ""
    message: str = ""
    maintenance: bool = False
    """Whether set_node_maintenance was asked for: it takes no new instances, what runs there goes on."""
    lacks: frozenset[Capability] = frozenset()
    """Flags that the driver declares and this node does not have."""
    addresses: tuple[str, ...] = ()


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes of the cluster, by name."""

    nodes: tuple[Node, ...]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """Who the driver is; ``releases`` are the contract releases that it serves, lowest and highest of one major."""

    driver: str
    driver_version: str
    releases: tuple[str, str]
    capabilities: Capabilities


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the hypervisor answers now; ``seconds`` is how long the answer took."""

    reachable: bool
    seconds: float
    hypervisor: str = ""
    message: str = ""
