"""Breadth-first over every history: the first violation found has the shortest history that leads to it."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from .claims import Violation
from .draft import Machinery, first_world
from .events import Events, Rules
from .narrate import narrate
from .parts import Parts
from .state import Label, World


@dataclass(frozen=True)
class Bounds:
    """How far the exploration goes: ``steps`` are the changing calls of each operation; ``states`` a limit that fails."""

    faults: int = 1
    steps: tuple[int, ...] = (2, 1)
    operations: int = 2
    workers: int = 2
    states: int = 3_000_000


@dataclass
class Explored:
    """What an exploration saw."""

    states: int = 0
    transitions: int = 0
    violation: Violation | None = None
    history: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """A history to a state from which, without further faults, nothing leads to an outcome of every operation."""
    rows: set[int] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """For a failing test."""
        head = f"{self.states} states, {self.transitions} transitions"
        if self.violation is not None:
            return "\n".join([f"{self.violation} ({head})", *self.history])
        return "\n".join(["C4 nothing lost: no way to an outcome from here", *self.stuck]) if self.stuck else head


class Exploration:
    """One exploration."""

    def __init__(self, parts: Parts, rules: Rules, bounds: Bounds) -> None:
        self.bounds = bounds
        self.machinery = Machinery(parts, bounds.steps)
        self.events = Events(self.machinery, rules)
        self.numbers: dict[World, int] = {}
        self.worlds: list[World] = []
        self.parents = array("l")
        self.labels: list[Label] = []
        self.known_labels: dict[Label, Label] = {}
        self.edges_from = array("l")
        self.edges_to = array("l")

    def run(self) -> Explored:
        """Explore everything within the bounds, or up to the first violation."""
        explored = Explored()
        bounds = self.bounds
        self._add(first_world(self.machinery, bounds.operations, bounds.workers, bounds.faults), -1, Label("start"))
        number = 0
        while number < len(self.worlds) and explored.violation is None:
            self._expand(number, explored)
            number += 1
            if len(self.worlds) > bounds.states:
                message = f"more than {bounds.states} states: the bounds are too wide"
                raise AssertionError(message)
        explored.states = len(self.worlds)
        explored.rows = self.machinery.rows
        if explored.violation is None:
            lost = self._cannot_end()
            if lost >= 0:
                explored.stuck = self._history(lost)
        return explored

    def _expand(self, number: int, explored: Explored) -> None:
        world = self.worlds[number]
        for label, change in self.events.after(world):
            explored.transitions += 1
            try:
                after = self.events.apply(world, change, fault=label.fault)
            except (Violation, AssertionError) as broken:
                violation = broken if isinstance(broken, Violation) else Violation("totality", str(broken))
                explored.violation = violation
                explored.history = [*self._history(number), narrate(label)]
                return
            other = self.numbers.get(after)
            if other is None:
                other = self._add(after, number, label)
                explored.seen[label.name] += 1
            if not label.fault and other != number:
                self.edges_from.append(number)
                self.edges_to.append(other)

    def _add(self, world: World, parent: int, label: Label) -> int:
        number = self.numbers[world] = len(self.worlds)
        self.worlds.append(world)
        self.parents.append(parent)
        self.labels.append(self.known_labels.setdefault(label, label))
        return number

    def _history(self, number: int) -> list[str]:
        lines: list[str] = []
        while number > 0:
            lines.append(narrate(self.labels[number]))
            number = self.parents[number]
        return lines[::-1]

    def _cannot_end(self) -> int:
        """The first state from which no fault-free way leads to an end; -1 when there is none."""
        ends = bytearray(_ended(world, parked=not self.events.rules.resolve) for world in self.worlds)
        changed = True
        while changed:
            changed = False
            for place in range(len(self.edges_from) - 1, -1, -1):
                source = self.edges_from[place]
                if not ends[source] and ends[self.edges_to[place]]:
                    ends[source] = 1
                    changed = True
        return ends.find(0)


def _ended(world: World, *, parked: bool) -> bool:
    if world.key.parked_by:
        return parked
    return all(operation.outcome for operation in world.operations)


def explore(parts: Parts | None = None, rules: Rules | None = None, bounds: Bounds | None = None) -> Explored:
    """Explore every history within the bounds."""
    return Exploration(parts or Parts(), rules or Rules(), bounds or Bounds()).run()
