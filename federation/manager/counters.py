"""What a manager counts beside its results loop, as plain numbers; metrics are made of them elsewhere."""

from __future__ import annotations

import enum
import threading
from collections import Counter


class Caller(enum.StrEnum):
    """Which kind of caller submits or reads: the closed list that metrics are labelled with."""

    COMMAND = "command"
    """The command line."""
    API = "api"
    BRIDGE = "bridge"
    """An integration such as a Nova virt driver."""
    MANAGER = "manager"
    """The manager itself, which reads inventories."""
    PROGRAM = "program"
    """Python code that calls the use cases."""


class ManagerCounters:
    """Thread-safe counters of one manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deprecated: Counter[tuple[str, int, Caller]] = Counter()
        self._driver_bugs: Counter[str] = Counter()
        self._dead_lettered: Counter[tuple[str, int]] = Counter()

    def deprecated_use(self, name: str, revision: int, caller: Caller) -> bool:
        """A caller used a deprecated revision; True for the first time that this operation was seen so."""
        with self._lock:
            first = not any((known, number) == (name, revision) for known, number, _ in self._deprecated)
            self._deprecated[name, revision, caller] += 1
        return first

    def driver_bug(self, driver: str) -> None:
        """A worker of this driver broke the contract, by its own word or by the manager's judgement."""
        with self._lock:
            self._driver_bugs[driver] += 1

    def dead_letter(self, cluster: str, partition: int) -> None:
        """The broker gave up a copy of an operation that the store has."""
        with self._lock:
            self._dead_lettered[cluster, partition] += 1

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Everything, in builtin types.

        ``deprecated`` by ``name.revision.caller``, ``driver_bugs`` by driver, ``dead_lettered`` by ``cluster.partition``.
        """
        with self._lock:
            return {
                "deprecated": {f"{name}.{rev}.{caller}": n for (name, rev, caller), n in self._deprecated.items()},
                "driver_bugs": dict(self._driver_bugs),
                "dead_lettered": {f"{name}.{part}": n for (name, part), n in self._dead_lettered.items()},
            }
