"""Snapshots: vSphere's own, whose description bears the operation's id.

revert_snapshot must not revert twice.  Reverting brings back the machine's ``extraConfig`` of the time of the snapshot, so a
note there disappears with it, and a custom attribute, which vCenter keeps itself, stays.  Both are written before: first the
note (``reverting``), then the attribute.  The attribute without the note says that the machine has been reverted.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from federation.contract.errors import (
    HypervisorUnreachable,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    OperationError,
    OutcomeUnknown,
)
from federation.contract.instances import PowerState
from federation.contract.requests import CreateSnapshot, DeleteSnapshot, RevertSnapshot
from federation.contract.results import SnapshotDeleted
from federation.contract.snapshots import Snapshot, SnapshotList
from federation_vmware import attributes, tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Session, gone
from federation_vmware.facts import object_id
from federation_vmware.machine import Fleet, Machine, replaced

MAX_SNAPSHOTS = 16
ATTRIBUTE = "federation.reverted"
_FORMAT = "driver-federation snapshot 1"


@dataclass(frozen=True, slots=True)
class Found:
    """One snapshot of vSphere's tree; ``reference`` names it to vCenter."""

    reference: Any
    shown: Snapshot


def create(fleet: Fleet, attempt: Attempt, request: CreateSnapshot) -> Snapshot:
    """Take a snapshot; with memory only of a running machine."""
    if request.quiesce:
        raise NotSupported("quiesced snapshots are not supported by this driver", capability="quiesced_snapshots")
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    present = _all(fleet, machine)
    made = _by_id(present, attempt.operation)
    if made is not None:
        return made.shown
    if request.memory and look.power_state is not PowerState.RUNNING:
        raise InvalidState(
            f"{request.instance} is {look.power_state}, a snapshot with memory needs it {PowerState.RUNNING}",
            power_state=look.power_state,
            expected=PowerState.RUNNING,
        )
    if len(present) >= MAX_SNAPSHOTS:
        raise InvalidRequest(
            f"{request.instance} has {MAX_SNAPSHOTS} snapshots, the most there may be", limit=MAX_SNAPSHOTS
        )
    description = _described(fleet.cluster, attempt.operation, request)
    try:
        machine.run(
            attempt,
            "take a snapshot of",
            lambda one: one.CreateSnapshot_Task(_safe(request.name), description, request.memory, False),  # noqa: FBT003
            percent=(0, 100),
        )
    except OperationError as error:
        if error is attempt.interruption:
            _undo(fleet, attempt, machine)
        raise
    made = _by_id(_all(fleet, machine), attempt.operation)
    if made is None:
        raise OutcomeUnknown(f"vCenter took a snapshot of {request.instance} and does not show it")
    return made.shown


def revert(fleet: Fleet, attempt: Attempt, request: RevertSnapshot) -> Machine:
    """Bring the machine back to a snapshot, once, and into its power state.

    A cancel or a deadline that comes after the first change comes too late: what was begun is brought to its end.
    """
    try:
        return _revert(fleet, attempt, request)
    except (HypervisorUnreachable, OutcomeUnknown):
        raise
    except OperationError as error:
        if error is not attempt.interruption or not (attempt.changes or attempt.recovering):
            raise
        return _revert(fleet, attempt, request)


def _revert(fleet: Fleet, attempt: Attempt, request: RevertSnapshot) -> Machine:
    machine = fleet.find(request.instance)
    look = machine.settled(attempt)
    found = _by_id(_all(fleet, machine), request.snapshot)
    if found is None or not found.shown.owned:
        raise NotFound(f"{request.instance} has no snapshot {request.snapshot} of ours", snapshot=request.snapshot)
    owner = machine.owner(look)
    marked = _marked(fleet, machine)
    if marked == f"done {attempt.operation}":
        return machine
    if marked != attempt.operation or owner.reverting == attempt.operation:
        if owner.reverting != attempt.operation:
            machine.reconfigure(attempt, look, "mark", owner=replaced(owner, reverting=attempt.operation))
        if marked != attempt.operation:
            _mark(fleet, attempt, machine, attempt.operation)
        _go_back(fleet, attempt, machine, found)
    _into_state(attempt, machine, found.shown.power_state)
    _mark(fleet, attempt, machine, f"done {attempt.operation}")
    return machine


def delete(fleet: Fleet, attempt: Attempt, request: DeleteSnapshot) -> SnapshotDeleted:
    """Remove a snapshot and keep what hangs on it; one that is not there stays away."""
    machine = fleet.find(request.instance)
    machine.settled(attempt)
    found = _by_id(_all(fleet, machine), request.snapshot)
    if found is None:
        return SnapshotDeleted()
    if not found.shown.owned:
        raise InvalidState(f"snapshot {request.snapshot} is foreign; it is left alone", snapshot=request.snapshot)

    def start(session: Session) -> Any:
        return session.bound(found.reference).RemoveSnapshot_Task(False, None)  # noqa: FBT003 - its children stay

    try:
        tasks.run(fleet.connection, attempt, f"delete snapshot {request.snapshot}", start, percent=(0, 100))
    except OperationError as error:
        if not gone(error) and _by_id(_all(fleet, machine), request.snapshot) is not None:
            raise
        if error is attempt.interruption and _by_id(_all(fleet, machine), request.snapshot) is not None:
            raise
    return SnapshotDeleted()


def listed(fleet: Fleet, instance: str) -> SnapshotList:
    """All snapshots of a machine, oldest first."""
    machine, _ = fleet.see(instance)
    found = (one.shown for one in _all(fleet, machine))
    return SnapshotList(snapshots=tuple(sorted(found, key=lambda one: (one.created_at, one.id))))


def _all(fleet: Fleet, machine: Machine) -> list[Found]:
    info = machine.snapshots()
    if info is None:
        return []
    current = object_id(info.currentSnapshot)
    return list(_walk(fleet.cluster, info.rootSnapshotList or (), None, current))


def _walk(cluster: str, trees: Any, parent: str | None, current: str) -> Iterator[Found]:
    for tree in trees:
        shown = shown_of(cluster, tree, parent, current)
        yield Found(tree.snapshot, shown)
        yield from _walk(cluster, tree.childSnapshotList or (), shown.id, current)


def shown_of(cluster: str, tree: Any, parent: str | None, current: str) -> Snapshot:
    """One of vSphere's snapshots in the contract's words."""
    note = _note(str(tree.description or ""))
    owned = note is not None and note.get("cluster") == cluster
    if note is not None and owned:
        identity, name = str(note["operation"]), str(note["name"])
        state = PowerState.RUNNING if note.get("memory") else PowerState.STOPPED
    else:
        identity, name = object_id(tree.snapshot), str(tree.name)
        state = PowerState.RUNNING if str(tree.state) == "poweredOn" else PowerState.STOPPED
    at = tree.createTime
    return Snapshot(
        id=identity,
        name=name,
        created_at=at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC),
        power_state=state,
        parent=parent,
        current=object_id(tree.snapshot) == current,
        owned=owned,
    )


def _described(cluster: str, operation: str, request: CreateSnapshot) -> str:
    note = {
        "format": _FORMAT,
        "cluster": cluster,
        "operation": operation,
        "name": request.name,
        "memory": request.memory,
    }
    return json.dumps(note, sort_keys=True)


def _note(description: str) -> dict[str, Any] | None:
    try:
        note = json.loads(description)
    except ValueError:
        return None
    known = isinstance(note, dict) and note.get("format") == _FORMAT and {"operation", "name"} <= note.keys()
    return note if known else None


def _safe(name: str) -> str:
    """VSphere escapes these itself and counts the escapes; the description has the name to the letter."""
    return "".join("_" if one in "%/\\" or ord(one) < ord(" ") else one for one in name)


def _by_id(found: list[Found], identity: str) -> Found | None:
    return next((one for one in found if one.shown.id == identity), None)


def _marked(fleet: Fleet, machine: Machine) -> str:
    answer = fleet.connection.properties("read attributes", vim.VirtualMachine, [machine.reference], ["customValue"])
    return attributes.value(fleet, vim.VirtualMachine, ATTRIBUTE, list(answer[0][1].get("customValue", ()) or ()))


def _mark(fleet: Fleet, attempt: Attempt, machine: Machine, text: str) -> None:
    attributes.write(fleet, attempt, vim.VirtualMachine, ATTRIBUTE, (machine.reference, text))


def _go_back(fleet: Fleet, attempt: Attempt, machine: Machine, found: Found) -> None:
    def start(session: Session) -> Any:
        return session.bound(found.reference).RevertToSnapshot_Task(None, True)  # noqa: FBT003 - do not power on

    tasks.run(fleet.connection, attempt, f"revert {machine.instance}", start)


def _into_state(attempt: Attempt, machine: Machine, wanted: PowerState) -> None:
    state = machine.look().power_state
    if wanted is PowerState.RUNNING and state is not PowerState.RUNNING:
        machine.power_on(attempt)
    elif wanted is PowerState.STOPPED and state is not PowerState.STOPPED:
        machine.power_off(attempt)


def _undo(fleet: Fleet, attempt: Attempt, machine: Machine) -> None:
    made = _by_id(_all(fleet, machine), attempt.operation)
    if made is None:
        return

    def start(session: Session) -> Any:
        return session.bound(made.reference).RemoveSnapshot_Task(False, None)  # noqa: FBT003 - its children stay

    tasks.run(fleet.connection, attempt, "remove the snapshot", start)
