"""Nodes and drivers: what a cluster consists of and who drives it."""

from __future__ import annotations

import msgspec

from federation.contract.capabilities import Capabilities


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One hypervisor host: what it has, what is in use, whether it answers; ``message`` says why it does not."""

    name: str
    reachable: bool
    accepts_instances: bool
    vcpus_total: int
    vcpus_used: int
    memory_bytes_total: int
    memory_bytes_used: int
    storage_bytes_total: int
    storage_bytes_used: int
    instances: int
    hypervisor: str = ""
    message: str = ""


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes of the cluster, by name."""

    nodes: tuple[Node, ...]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """Who the driver is; ``releases`` are the contract releases that it serves, lowest and highest."""

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
