"""adopt of the simulated driver."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.errors import AlreadyExists, NotFound
from federation.contract.instances import Instance
from federation.testing.hypervisor import node_rows, world
from federation.testing.hypervisor.records import Machine, facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, step, undoing


def adopt(session: Session, request: r.Adopt) -> Instance:
    """One call: the machine is ours from then on; nothing of what it runs is touched."""
    with undoing(session):
        machine = session.read()
        session.look("read_nodes", lambda connection: node_rows.require_known(connection, request.node))
        if machine is None or not machine.defined or machine.node != request.node:
            message = f"machine {request.instance} is not on node {request.node}"
            raise NotFound(message, instance=request.instance, node=request.node)
        if machine.owned and machine.name != request.name:
            message = f"machine {machine.id} is adopted already, under the name {machine.name}"
            raise AlreadyExists(message, instance=machine.id, name=machine.name)
        other = session.look("read_names", lambda connection: world.named(connection, request.name))
        if other is not None and other != machine.id:
            raise AlreadyExists(
                f"the name {request.name} belongs to machine {other}", name=request.name, instance=other
            )
        given = {"name": request.name, "metadata": dict(request.metadata), "made_by": session.call.operation}
        step(session, "adopt", _owned, **given)
        return facts(require(session))


def _owned(machine: Machine | None) -> bool:
    return machine is not None and machine.owned
