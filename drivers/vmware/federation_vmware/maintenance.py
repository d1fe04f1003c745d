"""set_node_maintenance: a custom attribute of the host says that the cluster puts no new instances there.

vSphere's own maintenance mode sends every machine away, and the contract says that what runs goes on; so that is left to
people, and shown.  The attribute lives in vCenter, so every worker sees it and it outlives them all.
"""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

from federation.contract.errors import InvalidState
from federation.contract.nodes import Node
from federation.contract.requests import SetNodeMaintenance
from federation_vmware import attributes, inventory
from federation_vmware.attempt import Attempt
from federation_vmware.machine import Fleet
from federation_vmware.places import Place

ATTRIBUTE = "federation.maintenance"


def set_maintenance(fleet: Fleet, attempt: Attempt, request: SetNodeMaintenance) -> Node:
    """Set or empty the attribute."""
    host = fleet.places.host(request.node)
    if is_on(fleet, host) != request.enabled:
        value = fleet.cluster if request.enabled else ""
        attributes.write(fleet, attempt, vim.HostSystem, ATTRIBUTE, (host.reference, value))
    return inventory.node(fleet, request.node)


def is_on(fleet: Fleet, host: Place) -> bool:
    """Whether the node is in maintenance for this cluster."""
    values: list[Any] = list(host.found.get("customValue", ()) or ())
    return attributes.value(fleet, vim.HostSystem, ATTRIBUTE, values) == fleet.cluster


def check_off(fleet: Fleet, host: Place) -> None:
    """Raise InvalidState when the node takes no new instances."""
    if is_on(fleet, host):
        raise InvalidState(
            f"node {host.name} is in maintenance and takes no new instances", node=host.name, expected="no maintenance"
        )
    if host.found.get("runtime.inMaintenanceMode"):
        raise InvalidState(f"node {host.name} is in vSphere's maintenance mode", node=host.name)
