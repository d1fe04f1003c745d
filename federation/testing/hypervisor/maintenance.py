"""set_node_maintenance of the simulated driver."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.errors import Cancelled, OperationError
from federation.contract.nodes import Node
from federation.testing.hypervisor import node_rows
from federation.testing.hypervisor.queries import find_node
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import undoing, wait_for_calls


def set_node_maintenance(session: Session, request: r.SetNodeMaintenance) -> Node:
    """One call."""
    kind = "enter_maintenance" if request.enabled else "leave_maintenance"
    with undoing(session):
        session.look("read_nodes", lambda connection: node_rows.require_known(connection, request.node))
        if find_node(session, request.node).maintenance != request.enabled:
            try:
                session.change(kind, target=request.node, node=request.node)
            except Cancelled:
                raise
            except OperationError:
                wait_for_calls(session)
                if find_node(session, request.node).maintenance != request.enabled:
                    raise
        return find_node(session, request.node)
