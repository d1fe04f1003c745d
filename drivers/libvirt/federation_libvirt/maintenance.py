"""set_node_maintenance: an empty volume in the node's pool says that the cluster puts no new instances there.

It lives on the node, so every worker sees it and it outlives them all; making and deleting a volume is atomic.
"""

from __future__ import annotations

from federation.contract.errors import InvalidState
from federation.contract.nodes import Node
from federation.contract.requests import SetNodeMaintenance
from federation_libvirt import inventory, names
from federation_libvirt.attempt import Attempt
from federation_libvirt.fleet import Fleet
from federation_libvirt.host import Host


def set_maintenance(fleet: Fleet, attempt: Attempt, request: SetNodeMaintenance) -> Node:
    """Set or remove the mark; the node's storage pool is made for it where it is missing."""
    host, mark = fleet.host(request.node), names.maintenance_mark(fleet.cluster)
    if request.enabled and not is_on(fleet, host):
        host.disks.prepare(attempt)
        host.disks.make(attempt, mark)
    elif not request.enabled and is_on(fleet, host):
        host.disks.delete(attempt, mark)
    return inventory.node(fleet, host)


def is_on(fleet: Fleet, host: Host) -> bool:
    """Whether the node is in maintenance."""
    return names.maintenance_mark(fleet.cluster) in host.disks.volumes()


def check_off(fleet: Fleet, host: Host) -> None:
    """Raise InvalidState when the node takes no new instances."""
    if is_on(fleet, host):
        raise InvalidState(
            f"node {host.node} is in maintenance and takes no new instances", node=host.node, expected="no maintenance"
        )
