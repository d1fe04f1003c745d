"""What is on the simulated hypervisor: nodes, machines, calls under way, the effect log.  All within a caller's transaction."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import msgspec

from federation.contract.errors import (
    CATALOGUE,
    AlreadyExists,
    InsufficientResources,
    NotFound,
    OperationError,
)
from federation.testing.history.records import Seen
from federation.testing.hypervisor import changes, node_rows, stored
from federation.testing.hypervisor.database import Connection
from federation.testing.hypervisor.records import Machine, Usage, seen, usage
from federation.testing.hypervisor.uptime import clocked


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One changing call: what it does (``kind``, ``target``, ``arguments``) and on whose behalf."""

    machine: str
    node: str
    kind: str
    target: str
    arguments: dict[str, Any]
    operation: str
    name: str
    attempt: int
    execution: int
    pid: int


class Moment(msgspec.Struct, frozen=True):
    """When a change took effect: started and ended on the monotonic clock, and the wall clock's time of the end."""

    started: float
    ended: float
    wall: float


_encode = msgspec.json.Encoder(order="sorted").encode
_decode_machine = msgspec.json.Decoder(Machine).decode
_decode_change = msgspec.json.Decoder(Change).decode


def load(connection: Connection, machine: str) -> Machine | None:
    """The machine, or what is left of it."""
    row = connection.execute("SELECT document FROM machines WHERE id = ?", (machine,)).fetchone()
    return None if row is None else _decode_machine(row[0])


def load_page(
    connection: Connection, *, after: str, limit: int, node: str | None = None, foreign: bool = True
) -> list[Machine]:
    """Defined machines on nodes that answer, in the order of their ids, from behind ``after``."""
    rows = connection.execute(
        "SELECT document FROM machines WHERE id > ? AND name IS NOT NULL AND (? IS NULL OR node = ?) AND (owned OR ?)"
        " AND node NOT IN (SELECT name FROM nodes WHERE NOT reachable)"
        " ORDER BY id LIMIT ?",
        (after, node, node, foreign, limit),
    )
    return [_decode_machine(row[0]) for row in rows]


def named(connection: Connection, name: str) -> str | None:
    """The id of the machine of that name."""
    row = connection.execute("SELECT id FROM machines WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def kinds() -> frozenset[str]:
    """Every kind of changing call, of machines and of nodes."""
    return changes.kinds() | frozenset(node_rows.MAINTENANCE)


def take_effect(connection: Connection, change: Change, moment: Moment) -> None:
    """Carry the change out and log the effect; whoever catches what is refused has to roll back."""
    if change.kind in node_rows.MAINTENANCE:
        _log(connection, change, moment, node_rows.set_maintenance(connection, change.node, change.kind))
        return
    before = load(connection, change.machine)
    standing = before or Machine(id=change.machine, node=change.node)
    after = clocked(standing, changes.apply(change.kind, standing, change.arguments), moment.ended)
    _check_name(connection, after)
    stored.carry_out(connection, change.kind, change.arguments)
    stored.follow(connection, before, after)
    if before is not None and before.node != after.node:
        charge(connection, after, Usage(), usage(after))
        charge(connection, before, usage(before), Usage())
    else:
        charge(connection, after, usage(before), usage(after))
    store(connection, after)
    _log(connection, change, moment, seen(after))


def store(connection: Connection, machine: Machine) -> None:
    """Keep the machine as it is now, or forget it when nothing is left of it."""
    if machine.empty:
        connection.execute("DELETE FROM machines WHERE id = ?", (machine.id,))
        return
    connection.execute(
        "INSERT INTO machines (id, node, name, owned, document) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET node = excluded.node, name = excluded.name, owned = excluded.owned,"
        " document = excluded.document",
        (machine.id, machine.node, machine.name if machine.defined else None, machine.owned, _encode(machine)),
    )


def start_call(connection: Connection, change: Change, started: float, ready: float, held_by: str | None) -> int:
    """Note a call that will take effect at ``ready`` (infinity: once its fault is released); returns its id."""
    done = connection.execute(
        "INSERT INTO calls (machine, execution, document, started, ready, held_by) VALUES (?, ?, ?, ?, ?, ?)",
        (change.machine, change.execution, _encode(change), started, None if math.isinf(ready) else ready, held_by),
    )
    return int(done.lastrowid or 0)


def calls_due(connection: Connection, now: float, machine: str | None) -> bool:
    """Whether calls (of one machine, or of any) have reached their time and not yet taken effect."""
    row = connection.execute(
        "SELECT 1 FROM calls WHERE done = 0 AND ready <= ? AND (? IS NULL OR machine = ?) LIMIT 1",
        (now, machine, machine),
    ).fetchone()
    return row is not None


def complete_calls(connection: Connection, now: float, wall: float, machine: str | None) -> None:
    """Let every call that has reached its time take effect, or note why the hypervisor refused it."""
    rows = connection.execute(
        "SELECT id, document, started, ready FROM calls WHERE done = 0 AND ready <= ? AND (? IS NULL OR machine = ?)"
        " ORDER BY ready, id",
        (now, machine, machine),
    ).fetchall()
    for number, document, started, ready in rows:
        moment = Moment(started, ready, wall - (now - ready))
        code = message = None
        connection.execute("SAVEPOINT effect")
        try:
            take_effect(connection, _decode_change(document), moment)
        except OperationError as error:
            code, message = error.code, error.message
            connection.execute("ROLLBACK TO effect")
        connection.execute("RELEASE effect")
        connection.execute("UPDATE calls SET done = 1, code = ?, message = ? WHERE id = ?", (code, message, number))


def collect_call(connection: Connection, number: int) -> float | None:
    """What became of a call: None when it is over (raises what the hypervisor refused it with), else when it is ready.

    A call that waits for a release is ready at infinity.
    """
    row = connection.execute("SELECT done, code, message, ready FROM calls WHERE id = ?", (number,)).fetchone()
    if row is None:
        return None
    done, code, message, ready = row
    if not done:
        return math.inf if ready is None else float(ready)
    if code is not None:
        raise CATALOGUE[code](message)
    return None


def next_ready(connection: Connection, machine: str) -> float | None:
    """When the last call under way on a machine will be over: None when there is none, infinity while one is held."""
    row = connection.execute(
        "SELECT count(*), count(ready), max(ready) FROM calls WHERE done = 0 AND machine = ?", (machine,)
    ).fetchone()
    if not row[0]:
        return None
    return float(row[2]) if row[0] == row[1] else math.inf


def _check_name(connection: Connection, machine: Machine) -> None:
    other = named(connection, machine.name) if machine.defined else None
    if other is not None and other != machine.id:
        raise AlreadyExists(f"the name {machine.name} belongs to machine {other}", name=machine.name, instance=other)


def charge(connection: Connection, machine: Machine, before: Usage, after: Usage) -> None:
    """Book the difference on the machine's node; InsufficientResources when it does not fit, before anything is written."""
    if before == after and not machine.defined:
        return
    node = connection.execute(
        "SELECT vcpus, memory_bytes, storage_bytes, memory_bytes_used, storage_bytes_used FROM nodes WHERE name = ?",
        (machine.node,),
    ).fetchone()
    if node is None:
        raise NotFound(f"node {machine.node!r} does not exist", node=machine.node)
    vcpus, memory, storage, memory_used, storage_used = node
    more_memory = after.memory_bytes - before.memory_bytes
    more_storage = after.storage_bytes - before.storage_bytes
    _check_room(machine, "vcpus", machine.vcpus, vcpus)
    _check_room(machine, "memory_bytes", machine.memory_bytes, memory)
    if more_memory > 0:
        _check_room(machine, "free memory_bytes", more_memory, memory - memory_used)
    if more_storage > 0:
        _check_room(machine, "free storage_bytes", more_storage, storage - storage_used)
    if before != after:
        connection.execute(
            "UPDATE nodes SET vcpus_used = vcpus_used + ?, memory_bytes_used = memory_bytes_used + ?,"
            " storage_bytes_used = storage_bytes_used + ?, instances = instances + ? WHERE name = ?",
            (after.vcpus - before.vcpus, more_memory, more_storage, after.instances - before.instances, machine.node),
        )


def _check_room(machine: Machine, what: str, wanted: int, there: int) -> None:
    if wanted > there:
        message = f"node {machine.node} has {there} {what}, machine {machine.id} needs {wanted}"
        raise InsufficientResources(message, node=machine.node, wanted=wanted, there=there)


def _log(connection: Connection, change: Change, moment: Moment, after: Seen) -> None:
    digest = hashlib.blake2b(_encode(change.arguments), digest_size=8).hexdigest()
    row: Iterable[object] = (
        change.machine, change.operation, change.name, change.attempt, change.execution, change.pid,
        change.kind, change.target, change.kind not in changes.INVISIBLE,
        moment.wall, moment.started, moment.ended, digest, _encode(after),
    )  # fmt: skip
    connection.execute(
        "INSERT INTO effects (key, operation, name, attempt, execution, pid, kind, target, visible,"
        " wall, started, ended, arguments, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tuple(row),
    )
