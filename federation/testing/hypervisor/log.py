"""Reading a simulated hypervisor from outside: its effect log, its final state; and planting what is not ours."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from federation.contract.instances import PowerState
from federation.protocol.ordering_key import node_of
from federation.testing.history.lines import ENVIRONMENT
from federation.testing.history.records import Effect, Execution, Final, Seen
from federation.testing.hypervisor import node_rows, planting, stored, world
from federation.testing.hypervisor.database import Connection, Database
from federation.testing.hypervisor.dump import World, dump
from federation.testing.hypervisor.records import Disk, Machine, seen

_decode_seen = msgspec.json.Decoder(Seen).decode

_EFFECT_COLUMNS = "sequence, key, operation, name, attempt, execution, pid, kind, target, visible, wall, started, ended, arguments, after"


class HypervisorLog(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one hypervisor can testify."""

    cluster: str
    effects: tuple[Effect, ...]
    executions: tuple[Execution, ...]
    finals: tuple[Final, ...]


def read_log(state_directory: str | Path) -> HypervisorLog:
    """Read all of it at one moment; ValueError when no worker has ever opened the directory."""
    database = Database(Path(state_directory))
    try:
        with database.transaction() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = 'cluster'").fetchone()
            if row is None:
                raise ValueError(f"{state_directory} holds no simulated hypervisor yet: no worker has opened it")
            cluster = str(row[0])
            return HypervisorLog(
                cluster=cluster,
                effects=tuple(_effects(connection, cluster)),
                executions=tuple(_executions(connection, cluster)),
                finals=tuple(_finals(connection, cluster)),
            )
    finally:
        database.close()


class HypervisorControl:
    """What somebody else than the federation does to the hypervisor: plant, crash, disconnect, maintain."""

    def __init__(self, state_directory: str | Path) -> None:
        self._database = Database(Path(state_directory))

    def plant_foreign(
        self, identifier: str, name: str, node: str, state: PowerState = PowerState.RUNNING, disk_bytes: int = 0
    ) -> None:
        """Put a machine there that is not ours: one processor, 1 GiB of memory, one disk unless ``disk_bytes`` is 0."""
        running = state is PowerState.RUNNING
        machine = Machine(
            id=identifier, node=node, defined=True, owned=False, name=name, power_state=state, vcpus=1,
            memory_bytes=1 << 30, boots=int(running), running_since=time.monotonic() if running else None,
            disks=(Disk(name=f"{identifier}-disk0", size_bytes=disk_bytes, root=True),) if disk_bytes else (),
        )  # fmt: skip
        with self._database.transaction() as connection:
            planting.plant_machine(connection, machine)

    def plant_volume(self, volume: stored.Stored) -> None:
        """Put a volume or template there, or change the one of that name."""
        with self._database.transaction() as connection:
            stored.keep(connection, volume)

    def plant_snapshot(self, identifier: str, snapshot: str, name: str) -> None:
        """Take a snapshot that is not ours.  Logged as an effect of no operation."""
        self._interfere(
            identifier, "take_snapshot", id=snapshot, name=name, memory=False, created=time.time(), owned=False
        )

    def crash_guest(self, identifier: str) -> None:
        """Let a running guest panic; HypervisorRefused when there is none.  Logged as an effect of no operation."""
        self._interfere(identifier, "crash_guest")

    def write_guest(self, identifier: str, disk: str, content: str) -> None:
        """Let the guest write to a disk; HypervisorRefused when there is none.  Logged as an effect of no operation."""
        self._interfere(identifier, "write_guest", name=disk, content=content)

    def world(self) -> World:
        """Everything that is there now."""
        with self._database.reading() as connection:
            return dump(connection)

    def _interfere(self, identifier: str, kind: str, **arguments: Any) -> None:
        with self._database.transaction() as connection:
            machine = world.load(connection, identifier)
            change = world.Change(
                machine=identifier, node=machine.node if machine else "", kind=kind, target="", arguments=arguments,
                operation=ENVIRONMENT, name="environment", attempt=0, execution=0, pid=os.getpid(),
            )  # fmt: skip
            now = time.monotonic()
            world.take_effect(connection, change, world.Moment(now, now, time.time()))

    def set_node(self, name: str, *, reachable: bool | None = None, accepts_instances: bool | None = None) -> None:
        """Cut a node off or bring it back, let it take instances or not; KeyError when there is no such node."""
        with self._database.transaction() as connection:
            done = connection.execute(
                "UPDATE nodes SET reachable = coalesce(?, reachable), accepts_instances = coalesce(?, accepts_instances)"
                " WHERE name = ?",
                (reachable, accepts_instances, name),
            )
            if not done.rowcount:
                raise KeyError(name)

    def machine(self, identifier: str) -> Machine | None:
        """The machine as the hypervisor keeps it, calls under way not counted."""
        with self._database.reading() as connection:
            return world.load(connection, identifier)

    def close(self) -> None:
        """Close the files."""
        self._database.close()


def _effects(connection: Connection, cluster: str) -> list[Effect]:
    rows = connection.execute(f"SELECT {_EFFECT_COLUMNS} FROM effects ORDER BY sequence")
    return [
        Effect(
            cluster=cluster, sequence=row[0], key=row[1], operation=row[2], name=row[3], attempt=row[4],
            execution=row[5], pid=row[6], kind=row[7], target=row[8], visible=bool(row[9]), wall=row[10],
            started=row[11], ended=row[12], arguments=row[13], after=_decode_seen(row[14]),
        )
        for row in rows
    ]  # fmt: skip


def _executions(connection: Connection, cluster: str) -> list[Execution]:
    rows = connection.execute(
        "SELECT id, key, operation, name, attempt, pid, began, guarded, ended, how FROM executions ORDER BY id"
    )
    return [
        Execution(
            cluster=cluster, id=row[0], key=row[1], operation=row[2], name=row[3], attempt=row[4], pid=row[5],
            began=row[6], guarded=row[7], ended=row[8], how=row[9],
        )
        for row in rows
    ]  # fmt: skip


def _finals(connection: Connection, cluster: str) -> list[Final]:
    known = {row[0] for row in connection.execute("SELECT DISTINCT key FROM effects")}
    known |= {row[0] for row in connection.execute("SELECT id FROM machines WHERE owned")}
    return [Final(cluster=cluster, key=key, seen=_final(connection, key)) for key in sorted(known)]


def _final(connection: Connection, key: str) -> Seen:
    node = node_of(key)
    return seen(world.load(connection, key)) if node is None else node_rows.seen_node(connection, node[1])
