"""The history cut into lines: everything about one ordering key of one cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from federation.testing.history.records import ABSENT, Accepted, Effect, Execution, Final, History, Seen, Settled

_T = TypeVar("_T")
ENVIRONMENT = ""
"""The operation of an effect that nobody's operation made: a guest that crashed, an operator at the hypervisor."""


@dataclass(slots=True)
class Line:
    """One ordering key's history; ``effects`` in the order in which they took effect, ``accepted`` by sequence."""

    cluster: str
    key: str
    accepted: list[Accepted] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    final: Final | None = None
    settled: dict[str, Settled] = field(default_factory=dict)

    def sequences(self) -> dict[str, int]:
        """Operation id to sequence."""
        return {accepted.operation: accepted.sequence for accepted in self.accepted}

    def effects_by_operation(self) -> dict[str, list[Effect]]:
        """Effects of each operation, in order; the environment's are left out."""
        return _grouped((effect.operation, effect) for effect in self.effects if effect.operation != ENVIRONMENT)

    def executions_by_operation(self) -> dict[str, list[Execution]]:
        """Executions of each operation, in the order in which they began."""
        ordered = sorted(self.executions, key=lambda execution: execution.began)
        return _grouped((execution.operation, execution) for execution in ordered)

    def befores(self) -> dict[str, Seen | None]:
        """What was seen right before each operation's first effect; None where the log does not say."""
        befores: dict[str, Seen | None] = {}
        previous: Seen | None = ABSENT if self.starts_with_nothing else None
        for effect in self.effects:
            if effect.operation != ENVIRONMENT:
                befores.setdefault(effect.operation, previous)
            previous = effect.after
        return befores

    @property
    def starts_with_nothing(self) -> bool:
        """Whether the history begins before anything of the instance was there."""
        return bool(self.accepted) and self.accepted[0].sequence == 1

    @property
    def disturbed(self) -> bool:
        """Whether the environment changed the instance too."""
        return any(effect.operation == ENVIRONMENT for effect in self.effects)


def cut(history: History) -> list[Line]:
    """All lines; ValueError when two accepted operations share an id, or a sequence of one key."""
    lines: dict[tuple[str, str], Line] = {}

    def line(cluster: str, key: str) -> Line:
        return lines.setdefault((cluster, key), Line(cluster, key))

    owner: dict[str, Line] = {}
    for accepted in history.accepted:
        if accepted.operation in owner:
            raise ValueError(f"operation {accepted.operation} is accepted twice")
        owner[accepted.operation] = line(accepted.cluster, accepted.key)
        owner[accepted.operation].accepted.append(accepted)
    for settled in history.settled:
        if settled.operation in owner:
            owner[settled.operation].settled[settled.operation] = settled
    for effect in history.effects:
        line(effect.cluster, effect.key).effects.append(effect)
    for execution in history.executions:
        line(execution.cluster, execution.key).executions.append(execution)
    for final in history.finals:
        line(final.cluster, final.key).final = final
    for one in lines.values():
        _sort(one)
    return list(lines.values())


def _sort(line: Line) -> None:
    line.accepted.sort(key=lambda accepted: accepted.sequence)
    line.effects.sort(key=lambda effect: effect.sequence)
    for earlier, later in zip(line.accepted, line.accepted[1:], strict=False):
        if earlier.sequence == later.sequence:
            raise ValueError(
                f"{earlier.operation} and {later.operation} are both number {later.sequence} of {line.key}"
            )


def _grouped(pairs: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    groups: defaultdict[str, list[_T]] = defaultdict(list)
    for name, value in pairs:
        groups[name].append(value)
    return groups
