"""migrate of the simulated driver."""

from __future__ import annotations

from federation.contract import requests as r
from federation.contract.instances import Instance, PowerState
from federation.testing.hypervisor import node_rows
from federation.testing.hypervisor.records import facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, require_state, step, undoing

_STATES = {r.MigrateMode.LIVE: PowerState.RUNNING, r.MigrateMode.COLD: PowerState.STOPPED}


def migrate(session: Session, request: r.Migrate) -> Instance:
    """Two calls: the target is prepared, then the machine moves over in one; it is on one node before, on one after."""
    target, operation = request.node, session.call.operation
    with undoing(session, _drop_prepared):
        machine = require(session)
        session.look("read_nodes", lambda connection: node_rows.require_known(connection, target))
        if machine.node != target:
            require_state(machine, f"migrate {request.mode}", _STATES[request.mode])
            what = f"instance {machine.id}"
            session.look("read_nodes", lambda connection: node_rows.require_open(connection, target, what))
            session.call.progress(5.0, f"preparing {target}")
            step(
                session, "prepare_target", lambda m: m is not None and m.incoming == (target, operation),
                target=target, node_to=target, made_by=operation,
            )  # fmt: skip
            session.call.progress(20.0, f"moving to {target}")
            step(
                session, f"migrate_{request.mode}", lambda m: m is not None and m.node == target,
                target=target, node_to=target, made_by=operation,
            )  # fmt: skip
        return facts(require(session))


def _drop_prepared(session: Session) -> None:
    machine = session.read()
    if machine is not None and machine.incoming is not None and machine.incoming[1] == session.call.operation:
        session.change("drop_target", target=machine.incoming[0])
