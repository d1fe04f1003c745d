"""set_node_maintenance: an empty disk with a name of its own in the driver's folder says that a host takes no new instances.

Hyper-V without a failover cluster has no such state of its own, and whatever the mark is, every worker must see it.
"""

from __future__ import annotations

from federation.contract.errors import HypervisorRefused, InvalidState
from federation.contract.nodes import Node
from federation.contract.requests import SetNodeMaintenance
from federation_hyperv import inventory, msvm, names
from federation_hyperv.attempt import Attempt
from federation_hyperv.fleet import Fleet
from federation_hyperv.host import Host
from federation_hyperv.machine import store_of

_MARK_BYTES = 3 << 20
"""The smallest disk that Hyper-V makes."""


def set_maintenance(fleet: Fleet, attempt: Attempt, request: SetNodeMaintenance) -> Node:
    """Set or remove the mark."""
    host, mark = fleet.host(request.node), names.maintenance_mark(fleet.cluster)
    store = store_of(host)
    if attempt.recovering:
        host.wait_idle(attempt, lambda job: names.same(str(job.get("Child") or ""), store.path(mark)))
    if request.enabled and not is_on(fleet, host):
        try:
            store.make(attempt, "mark the node", msvm.blank_disk(store.path(mark), _MARK_BYTES))
        except HypervisorRefused:
            if not is_on(fleet, host):
                raise
    elif not request.enabled and is_on(fleet, host):
        store.delete(attempt, mark)
    return inventory.node(fleet, host)


def is_on(fleet: Fleet, host: Host) -> bool:
    """Whether the node is in maintenance."""
    return names.maintenance_mark(fleet.cluster) in store_of(host).files()


def check_off(fleet: Fleet, host: Host) -> None:
    """Raise InvalidState when the node takes no new instances."""
    if is_on(fleet, host):
        raise InvalidState(
            f"node {host.node} is in maintenance and takes no new instances", node=host.node, expected="no maintenance"
        )
