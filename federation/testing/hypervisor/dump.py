"""Everything that is on a simulated hypervisor at one moment, for observers outside of any driver."""

from __future__ import annotations

from pathlib import Path

import msgspec

from federation.testing.hypervisor import stored
from federation.testing.hypervisor.database import Connection, Database
from federation.testing.hypervisor.records import Machine


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """One node; what is used is booked when machines change."""

    name: str
    reachable: bool
    accepts_instances: bool
    maintenance: bool
    vcpus_used: int
    memory_bytes_used: int
    storage_bytes_used: int
    instances: int


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes by name, machines by id (with disks, snapshots and markers), stored things by kind, pool and name.

    ``calls_under_way`` maps a machine's id to the kinds of its calls that have not taken effect yet.
    """

    cluster: str
    nodes: tuple[NodeState, ...]
    machines: tuple[Machine, ...]
    volumes: tuple[stored.Stored, ...]
    templates: tuple[stored.Stored, ...]
    calls_under_way: dict[str, tuple[str, ...]]

    def machine(self, identifier: str) -> Machine | None:
        """The machine of that id, or what is left of it."""
        return next((machine for machine in self.machines if machine.id == identifier), None)

    def volume(self, name: str, pool: str | None = None) -> stored.Stored | None:
        """The volume of that name (of any pool when None)."""
        return next((one for one in self.volumes if one.name == name and pool in {None, one.pool}), None)

    def template(self, name: str, pool: str | None = None) -> stored.Stored | None:
        """The template of that name (of any pool when None)."""
        return next((one for one in self.templates if one.name == name and pool in {None, one.pool}), None)


def read_world(state_directory: str | Path) -> World:
    """Read all of it at one moment; ValueError when no worker has ever opened the directory."""
    database = Database(Path(state_directory))
    try:
        with database.transaction() as connection:
            return dump(connection)
    finally:
        database.close()


def dump(connection: Connection) -> World:
    """All of it, within the caller's transaction; ValueError when no worker has ever opened the directory."""
    row = connection.execute("SELECT value FROM facts WHERE name = 'cluster'").fetchone()
    if row is None:
        raise ValueError("there is no simulated hypervisor yet: no worker has opened its folder")
    machines = connection.execute("SELECT document FROM machines ORDER BY id")
    held = stored.everything(connection)
    return World(
        cluster=str(row[0]),
        nodes=tuple(_nodes(connection)),
        machines=tuple(msgspec.json.decode(one[0], type=Machine) for one in machines),
        volumes=tuple(one for one in held if one.kind == stored.VOLUME),
        templates=tuple(one for one in held if one.kind == stored.TEMPLATE),
        calls_under_way=_calls(connection),
    )


def _nodes(connection: Connection) -> list[NodeState]:
    rows = connection.execute(
        "SELECT name, reachable, accepts_instances, maintenance, vcpus_used, memory_bytes_used, storage_bytes_used,"
        " instances FROM nodes ORDER BY name"
    )
    return [
        NodeState(
            name=name, reachable=bool(reachable), accepts_instances=bool(accepts), maintenance=bool(maintenance),
            vcpus_used=vcpus, memory_bytes_used=memory, storage_bytes_used=storage, instances=instances,
        )
        for name, reachable, accepts, maintenance, vcpus, memory, storage, instances in rows
    ]  # fmt: skip


def _calls(connection: Connection) -> dict[str, tuple[str, ...]]:
    calls: dict[str, tuple[str, ...]] = {}
    rows = connection.execute("SELECT machine, document FROM calls WHERE done = 0 ORDER BY id")
    for machine, document in rows:
        kind = msgspec.json.decode(document)["kind"]
        calls[machine] = (*calls.get(machine, ()), kind)
    return calls
