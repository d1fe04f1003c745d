"""The effect log: what truly changed on the simulated hosts, in order, in a file that nobody rewrites.

The columns are those of the core's simulated hypervisor where they can be known here: WS-Management carries no operation
id, so the id is what the driver left in the machine's Notes, and the rest is for the reader to join.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effects (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL, node TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
    wall REAL NOT NULL, started REAL NOT NULL, ended REAL NOT NULL, arguments TEXT NOT NULL, after TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS effects_stay BEFORE UPDATE ON effects
    BEGIN SELECT raise(ABORT, 'the effect log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS effects_remain BEFORE DELETE ON effects
    BEGIN SELECT raise(ABORT, 'the effect log is append-only'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One change that took effect.  ``key`` is the machine's id (or `node:NAME`), times are seconds."""

    sequence: int
    key: str
    node: str
    name: str
    kind: str
    target: str
    wall: float
    started: float
    ended: float
    arguments: dict[str, Any]
    after: dict[str, Any]


class EffectLog:
    """Append to and read the log at a path."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)

    def append(self, row: Mapping[str, object]) -> None:
        """Write one effect; ``row`` has every field of `Effect` except its sequence."""
        names = [name for name in Effect.__dataclass_fields__ if name != "sequence"]
        values = [
            json.dumps(row[name], sort_keys=True, default=str) if name in {"arguments", "after"} else row[name]
            for name in names
        ]
        marks = ", ".join("?" * len(names))
        self._connection.execute(f"INSERT INTO effects ({', '.join(names)}) VALUES ({marks})", values)  # fixed names

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def read_effects(path: Path) -> list[Effect]:
    """All effects in the order in which they happened."""
    connection = sqlite3.connect(path, timeout=10)
    try:
        columns = ", ".join(Effect.__dataclass_fields__)
        rows = connection.execute(f"SELECT {columns} FROM effects ORDER BY sequence").fetchall()  # fixed names
    finally:
        connection.close()
    return [
        Effect(**{
            name: json.loads(value) if name in {"arguments", "after"} else value
            for name, value in zip(Effect.__dataclass_fields__, row, strict=True)
        })
        for row in rows
    ]  # fmt: skip
