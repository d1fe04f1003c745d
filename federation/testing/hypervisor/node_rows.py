"""The nodes of the simulated hypervisor: whether they are there, answer, and take instances; and their maintenance.

All within a caller's transaction.
"""

from __future__ import annotations

from federation.contract.errors import HypervisorUnreachable, InvalidState, NotFound
from federation.testing.history.records import Seen
from federation.testing.hypervisor.database import Connection

MAINTENANCE = {"enter_maintenance": True, "leave_maintenance": False}
"""Kind of changing call of a node: what it sets."""


def require_known(connection: Connection, name: str) -> None:
    """Raise NotFound, naming those that there are, unless the node is there."""
    if connection.execute("SELECT 1 FROM nodes WHERE name = ?", (name,)).fetchone() is None:
        known = ", ".join(row[0] for row in connection.execute("SELECT name FROM nodes ORDER BY name"))
        raise NotFound(f"node {name!r} does not exist; the cluster has {known}", node=name)


def require_node(connection: Connection, name: str) -> None:
    """Raise NotFound or HypervisorUnreachable unless the node is there and answers."""
    require_known(connection, name)
    if name in unreachable(connection):
        raise HypervisorUnreachable(f"node {name} does not answer", node=name)


def require_open(connection: Connection, node: str, what: str) -> None:
    """Raise as ``require_node``, and InvalidState unless the node takes new instances; ``what`` was to go there."""
    require_node(connection, node)
    accepts, maintenance = connection.execute(
        "SELECT accepts_instances, maintenance FROM nodes WHERE name = ?", (node,)
    ).fetchone()
    if maintenance:
        raise InvalidState(f"node {node} is in maintenance, {what} was to go there", node=node)
    if not accepts:
        raise InvalidState(f"node {node} takes no new instances, {what} was to go there", node=node)


def unreachable(connection: Connection) -> frozenset[str]:
    """Names of the nodes that do not answer."""
    return frozenset(row[0] for row in connection.execute("SELECT name FROM nodes WHERE NOT reachable"))


def set_maintenance(connection: Connection, name: str, kind: str) -> Seen:
    """Carry the change out; what is seen of the node then."""
    connection.execute("UPDATE nodes SET maintenance = ? WHERE name = ?", (MAINTENANCE[kind], name))
    return seen_node(connection, name)


def seen_node(connection: Connection, name: str) -> Seen:
    """What the effect log says of a node."""
    row = connection.execute("SELECT maintenance FROM nodes WHERE name = ?", (name,)).fetchone()
    return Seen(maintenance=bool(row and row[0]))
