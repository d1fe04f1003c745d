"""create_snapshot, revert_snapshot, delete_snapshot and list_snapshots of the simulated driver."""

from __future__ import annotations

import datetime as dt

from federation.contract import requests as r
from federation.contract.errors import Conflict, InsufficientResources, InvalidState, NotFound
from federation.contract.instances import Instance, PowerState
from federation.contract.results import SnapshotDeleted
from federation.contract.snapshots import Snapshot, SnapshotList
from federation.testing.hypervisor.queries import find_machine
from federation.testing.hypervisor.records import KeptSnapshot, Machine, facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import Done, require, require_agent, require_state, step, undoing

_S = PowerState


def create_snapshot(session: Session, request: r.CreateSnapshot) -> Snapshot:
    """One call, or three when the guest's file systems are frozen meanwhile; the snapshot bears the operation's id."""
    identifier = session.call.operation
    with undoing(session, _drop_made):
        machine = require(session)
        if machine.snapshot(identifier) is None:
            _check(session, machine, request)
            if request.quiesce:
                session.call.progress(10.0, "freezing the guest's file systems")
                step(session, "freeze", _frozen_by(identifier), made_by=identifier)
            session.call.progress(20.0, "keeping the disks")
            step(
                session, "take_snapshot", _has(identifier), target=identifier, id=identifier, name=request.name,
                memory=request.memory, created=session.hypervisor.clock.wall(), owned=True,
            )  # fmt: skip
        machine = require(session)
        if machine.frozen_by == identifier:
            step(session, "thaw", lambda m: m is None or m.frozen_by != identifier)
        kept = require(session).snapshot(identifier)
        if kept is None:
            raise Conflict(f"snapshot {identifier} was taken away meanwhile", snapshot=identifier)
        return _shown(kept, require(session))


def revert_snapshot(session: Session, request: r.RevertSnapshot) -> Instance:
    """One call, which notes the operation: what the guest wrote after it is not taken back by a repeat."""
    operation = session.call.operation
    with undoing(session):
        machine = require(session)
        if machine.reverted_by != operation:
            if _owned_snapshot(machine, request.snapshot) is None:
                message = f"snapshot {request.snapshot} of instance {machine.id} does not exist"
                raise NotFound(message, snapshot=request.snapshot, instance=machine.id)
            session.call.progress(None, "bringing the disks back")
            step(
                session, "revert_snapshot", lambda m: m is not None and m.reverted_by == operation,
                target=request.snapshot, id=request.snapshot, made_by=operation,
            )  # fmt: skip
        return facts(require(session))


def delete_snapshot(session: Session, request: r.DeleteSnapshot) -> SnapshotDeleted:
    """One call."""
    with undoing(session):
        if _owned_snapshot(require(session), request.snapshot) is not None:
            done = _lacks(request.snapshot)
            step(session, "delete_snapshot", done, target=request.snapshot, id=request.snapshot)
        return SnapshotDeleted()


def list_snapshots(session: Session, request: r.ListSnapshots) -> SnapshotList:
    """Oldest first, foreign ones too."""
    machine = find_machine(session, request.instance)
    ordered = sorted(machine.snapshots, key=lambda kept: (kept.created, kept.id))
    return SnapshotList(snapshots=tuple(_shown(kept, machine) for kept in ordered))


def _check(session: Session, machine: Machine, request: r.CreateSnapshot) -> None:
    if request.memory:
        require_state(machine, "create_snapshot with memory", _S.RUNNING, _S.PAUSED)
    else:
        require_state(machine, "create_snapshot", _S.RUNNING, _S.PAUSED, _S.STOPPED, _S.CRASHED)
    if request.quiesce:
        require_state(machine, "create_snapshot quiesced", _S.RUNNING)
        require_agent(machine, "create_snapshot quiesced")
    limit = session.hypervisor.settings.limits.max_snapshots
    if limit is not None and len(machine.snapshots) >= limit:
        number = len(machine.snapshots)
        message = f"create_snapshot: instance {machine.id} has {number} snapshots, this driver takes at most {limit}"
        raise InsufficientResources(message, wanted=number + 1, limit=limit)


def _owned_snapshot(machine: Machine, identifier: str) -> KeptSnapshot | None:
    kept = machine.snapshot(identifier)
    if kept is not None and not kept.owned:
        message = (
            f"snapshot {identifier} of instance {machine.id} is foreign: it was not made here and is never touched"
        )
        raise InvalidState(message, snapshot=identifier, instance=machine.id)
    return kept


def _drop_made(session: Session) -> None:
    operation = session.call.operation
    machine = session.read()
    if machine is not None and machine.frozen_by == operation:
        session.change("thaw")
    if machine is not None and machine.snapshot(operation) is not None:
        session.change("drop_snapshot", target=operation, id=operation)


def _shown(kept: KeptSnapshot, machine: Machine) -> Snapshot:
    return Snapshot(
        id=kept.id,
        name=kept.name,
        created_at=dt.datetime.fromtimestamp(kept.created, dt.UTC),
        power_state=kept.power_state,
        parent=kept.parent,
        current=machine.current_snapshot == kept.id,
        owned=kept.owned,
    )


def _has(identifier: str) -> Done:
    return lambda machine: machine is not None and machine.snapshot(identifier) is not None


def _lacks(identifier: str) -> Done:
    return lambda machine: machine is None or machine.snapshot(identifier) is None


def _frozen_by(operation: str) -> Done:
    return lambda machine: machine is not None and machine.frozen_by == operation
