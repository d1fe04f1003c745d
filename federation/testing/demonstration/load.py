"""What the demonstration asks for: tens of machines, some hundreds of operations, nobody waits for anybody.

Every line of operations makes sense only if it takes effect in its order; it is submitted all at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from federation.contract.capabilities import Capability
from federation.testing.hypervisor.profiles import PROFILES, HypervisorKind

_CHECKSUM = "sha256:" + "0" * 64
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """One operation to submit."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def create(name: str, kind: HypervisorKind) -> Wish:
    """Make a machine."""
    image_format = min(PROFILES[kind].formats)
    boot = {"kind": "image", "url": "https://images.example/guest", "checksum": _CHECKSUM, "format": str(image_format)}
    flavour = {"vcpus": 2, "memory_bytes": 512 * _MIB}
    return Wish("create", {"spec": {"name": name, "flavour": flavour, "boot": boot}, "start": True})


def life(kind: HypervisorKind, length: int, chance: random.Random) -> Iterator[Wish]:
    """Operations that all succeed if, and only if, they take effect in this order after the create."""
    flags = PROFILES[kind].flags
    state = "running"
    for number in range(length):
        moves = _moves(state, flags, number)
        wish, state = chance.choice(moves)
        yield wish


def _moves(state: str, flags: frozenset[Capability], number: int) -> list[tuple[Wish, str]]:
    if state == "stopped":
        flavour = {"vcpus": 1 + number % 4, "memory_bytes": (512 + 64 * (number % 8)) * _MIB}
        resize = (Wish("resize", {"flavour": flavour}), "stopped")
        return [(Wish("power_on"), "running")] + ([resize] if Capability.RESIZE in flags else [])
    if state == "paused":
        return [(Wish("unpause"), "running")]
    if state == "suspended":
        return [(Wish("resume"), "running")]
    moves = [(Wish("power_off", {"mode": "hard"}), "stopped"), (Wish("reboot", {"mode": "hard"}), "running")]
    if Capability.PAUSE in flags:
        moves.append((Wish("pause"), "paused"))
    if Capability.SUSPEND in flags:
        moves.append((Wish("suspend"), "suspended"))
    return moves
