"""The facts that the history checker judges, as plain records with a JSON form.

Times named ``started``, ``ended``, ``began``, ``guarded`` are seconds of one monotonic clock that all writers share (on Linux
CLOCK_MONOTONIC, which is the same for every process of a machine).  ``key`` is the ordering key: an instance's UUID, or
``node:<cluster>/<name>``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from federation.contract.outcomes import OutcomeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What anybody who looks at the hypervisor sees of an instance or a node; markers and notes are not part of it.

    ``power_state`` None means that there is no machine; disks or a memory file may still lie there.
    """

    power_state: str | None = None
    vcpus: int = 0
    memory_bytes: int = 0
    boots: int = 0
    """How often the guest has started from nothing."""
    disks: tuple[str, ...] = ()
    memory_file: bool = False
    sizes: tuple[int, ...] = ()
    """Of each disk, in bytes."""
    generations: tuple[int, ...] = ()
    """Of each disk: how often it was written to."""
    node: str = ""
    incoming: str = ""
    """The node that is prepared to take it."""
    interfaces: tuple[str, ...] = ()
    """MAC addresses."""
    snapshots: tuple[tuple[str, str], ...] = ()
    """Id of each, and the power state that reverting to it ends in."""
    current_snapshot: str = ""
    frozen: bool = False
    """Whether the guest's file systems are."""
    password_sets: int = 0
    """How often a password was set in the guest."""
    nmis: int = 0
    maintenance: bool = False
    """Of a node: whether it takes no new instances."""


ABSENT = Seen()
"""Nothing of the instance is on the hypervisor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An operation that the manager accepted; ``arguments`` is the request in builtin types, empty when not known."""

    operation: str
    cluster: str
    key: str
    sequence: int
    name: str
    arguments: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of an operation; ``attempts`` is how many were granted (0: it never started)."""

    operation: str
    kind: OutcomeKind
    code: str | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One changing call that took effect on a hypervisor.

    ``sequence`` counts all effects of one cluster in the order in which they took effect; ``target`` names the thing
    changed when an instance has several (a disk); ``visible`` is false for markers and requests that the guest may
    ignore; ``execution`` tells runs of a driver method apart; ``arguments`` is a digest; ``after`` is what was seen then.
    """

    cluster: str
    sequence: int
    key: str
    operation: str
    name: str
    attempt: int
    execution: int
    pid: int
    kind: str
    target: str
    visible: bool
    wall: float
    started: float
    ended: float
    arguments: str
    after: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a driver's method for one attempt.

    ``guarded`` is when its first guard let it through, None when nothing asked for leave; ``ended`` is None when the
    process died on the way; ``how`` is ``returned``, ``revoked``, ``raised <code>`` or ``bug <class>``.
    """

    cluster: str
    id: int
    key: str
    operation: str
    name: str
    attempt: int
    pid: int
    began: float
    guarded: float | None = None
    ended: float | None = None
    how: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """What the hypervisor itself shows of an instance at the end, read past the effect log."""

    cluster: str
    key: str
    seen: Seen


Record = Accepted | Settled | Effect | Execution | Final


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that happened.

    ``pending`` names operations that the manager still holds (queued or running); ``parked`` names ordering keys.
    """

    accepted: tuple[Accepted, ...] = ()
    settled: tuple[Settled, ...] = ()
    effects: tuple[Effect, ...] = ()
    executions: tuple[Execution, ...] = ()
    finals: tuple[Final, ...] = ()
    pending: frozenset[str] = frozenset()
    parked: frozenset[str] = frozenset()

    def to_json(self) -> bytes:
        """The JSON form; ``from_json`` reads it back."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(text: bytes | str) -> History:
        """Read the JSON form; msgspec.ValidationError names what is wrong."""
        return msgspec.json.decode(text, type=History)
