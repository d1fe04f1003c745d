"""How a worker joins its cluster, says that it lives, and leaves: the messages between worker and manager.

Rules (DESIGN §5.4, §6.1):

1. A worker consumes nothing before the manager has admitted it.
2. A worker that the manager does not know (any more) is told so by the answer to its heartbeat and announces itself again.
3. An epoch other than the one the worker was admitted to means: finish, let go of the old partitions, announce again.
4. A worker may be newer than its manager: capability flags that the manager's release does not know are left out, so that
   nothing which needs them is ever sent, and the worker is admitted.
5. What a worker says of itself harms no other: its name is a plain word, its figures are few and finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from federation.contract.capabilities import Capabilities, Capability
from federation.contract.nodes import Description

WORKER_NAME_RULE = "1 to 128 letters, digits, '_', '-' and '.', the first a letter or digit"
_WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_KNOWN_FLAGS = frozenset(map(str, Capability))
_MOST_FIGURES = 64
_LONGEST_FIGURE_NAME = 64


def is_worker_name(name: str) -> bool:
    """Whether a worker may be called so: names of queues, routing keys and lines of the log are made of it."""
    return _WORKER_NAME.fullmatch(name) is not None


def usable_load(load: Mapping[str, float]) -> dict[str, float]:
    """The figures of a heartbeat that can be kept: JSON has no word for NaN, and a table of them must not grow."""
    usable = ((n, figure) for n, figure in load.items() if len(n) <= _LONGEST_FIGURE_NAME and math.isfinite(figure))
    return dict(islice(usable, _MOST_FIGURES))


def known_capabilities(plain: Mapping[str, Any]) -> Capabilities:
    """Capabilities from builtin types, by rule 4; msgspec.ValidationError when they are no capabilities."""
    return msgspec.convert(without_unknown_flags(plain), Capabilities)


def without_unknown_flags(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker tells, in builtin types, by rule 4: in a driver's description, a node, or a list of nodes."""
    known = {name: _known(told[name]) for name in ("flags", "lacks") if name in told}
    if isinstance(told.get("capabilities"), Mapping):
        known["capabilities"] = without_unknown_flags(told["capabilities"])
    nodes = told.get("nodes")
    if isinstance(nodes, list | tuple):
        known["nodes"] = [without_unknown_flags(node) if isinstance(node, Mapping) else node for node in nodes]
    return {**told, **known}


def _known(flags: object) -> object:
    if not isinstance(flags, list | tuple | set | frozenset):
        return flags
    return [flag for flag in flags if not isinstance(flag, str) or flag in _KNOWN_FLAGS]


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A worker asks to join; ``description`` is its driver's own, ``max_operations`` how many it runs side by side."""

    worker: str
    cluster: str
    description: Description
    host: str
    pid: int
    max_operations: int


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The manager's yes.

    ``pin`` is the contract release that the cluster speaks now.  ``lease_seconds`` and ``margin_seconds`` are the terms
    that the manager grants under; ``prefetch`` counts deliveries per partition.
    """

    worker: str
    cluster: str
    epoch: int
    partitions: int
    pin: str
    lease_seconds: float
    margin_seconds: float
    prefetch: int = 16
    heartbeat_seconds: float = 5.0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker lives; ``load`` holds figures by name (running, held, revoked, partitions, max_operations, driver_bugs)."""

    worker: str
    cluster: str
    epoch: int
    draining: bool
    load: dict[str, float]


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the manager knows the worker as admitted, the epoch of now, and whether it is to drain and leave."""

    known: bool
    epoch: int
    drain: bool = False


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A worker leaves; ``reason`` is one sentence for people."""

    worker: str
    cluster: str
    reason: str
