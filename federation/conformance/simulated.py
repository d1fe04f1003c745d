"""The kit's observer of the simulated hypervisor: its file and its effect log."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from federation.testing.hypervisor import world
from federation.testing.hypervisor.database import Database
from federation.testing.hypervisor.log import HypervisorControl
from federation.testing.hypervisor.records import Usage, usage
from federation.testing.hypervisor.settings import SimulatedSettings

_CLOCKS = ("running_since", "ran_seconds")
"""What changes while nobody does anything."""


class SimulatedObserver:
    """Reads ``state_directory``."""

    def __init__(self, settings: SimulatedSettings, _cluster: str, _more: Mapping[str, str]) -> None:
        self._database = Database(Path(settings.state_directory))
        self._control = HypervisorControl(settings.state_directory)

    def look(self, instance: str, stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """The machine with its disks, memory file, snapshots and notes, as the hypervisor keeps it, and what is stored."""
        there = self._control.world()
        machine = there.machine(instance)
        seen: dict[str, Any] = {}
        if machine is not None and not machine.empty:
            seen = msgspec.to_builtins(machine)
            for name in _CLOCKS:
                seen.pop(name)
            for snapshot in seen["snapshots"]:
                snapshot.pop("created")
        kept = [msgspec.to_builtins(one) for one in (*there.volumes, *there.templates) if one.name in stored]
        return (seen | {"stored": kept} if kept else seen) or None

    def changes(self, operation: str) -> int | None:
        """Entries in the effect log, and calls that are under way."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT count(*) FROM effects WHERE operation = ?", (operation,)).fetchone()
            return int(row[0])

    def plant_foreign(self, node: str) -> str | None:
        """A running machine of somebody else."""
        machine = str(uuid.uuid4())
        self._control.plant_foreign(machine, f"foreign-{machine[:8]}", node)
        return machine

    def remove_foreign(self, machine: str) -> None:
        """Its owner removes it."""
        with self._database.transaction() as connection:
            found = world.load(connection, machine)
            if found is not None:
                world.charge(connection, found, usage(found), Usage())
                connection.execute("DELETE FROM machines WHERE id = ?", (machine,))

    def discard(self, name: str) -> None:
        """Its owner deletes it."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM stored WHERE name = ?", (name,))

    def close(self) -> None:
        """Close the files."""
        with suppress(OSError):
            self._control.close()
        self._database.close()
