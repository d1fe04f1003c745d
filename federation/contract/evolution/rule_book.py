"""What a rule is, and what it finds.

A rule is one small function: it is handed a pair (the older and the newer form of the same thing) and yields a
:class:`Hit` for each place where the rule is broken.  Its name is the function's, its text the docstring; weight, direction
and what to do stand beside it, so that the page of the rules is made from the code.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import msgspec


class Direction(enum.StrEnum):
    """Which way the changed data travels."""

    REQUEST = "request"
    """From manager to driver."""
    RESULT = "result"
    """From driver to manager."""
    BOTH = "both"
    """Either way, or it is agreed between the two and does not travel."""


class Weight(enum.StrEnum):
    """What a finding means for a release."""

    BREAK = "break"
    """Manager and drivers could no longer be upgraded in any order: not in this major release."""
    ADDITION = "addition"
    """Allowed in a minor release, not in one that is frozen."""
    NOTE = "note"
    """For people: words, or a figure that no other side depends on."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference; ``operations`` are those that it reaches, ``action`` is what its author does next."""

    path: str
    rule: str
    direction: Direction
    weight: Weight
    message: str
    action: str
    operations: tuple[str, ...] = ()


class Hit(NamedTuple):
    """A rule fires: where below the pair's own path (empty for the pair itself), and what is so."""

    below: str
    message: str


P = TypeVar("P")
Check = Callable[[P], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Rule(Generic[P]):
    """One rule with everything that is said about it."""

    name: str
    weight: Weight
    direction: Direction
    action: str
    text: str
    check: Check[P]

    def findings(self, pair: P, path: str, direction: Direction) -> Iterator[Finding]:
        """What the rule says of a pair whose data travels in ``direction``."""
        if self.direction not in {direction, Direction.BOTH}:
            return
        for hit in self.check(pair):
            where = f"{path}/{hit.below}" if hit.below else path
            yield Finding(
                path=where,
                rule=self.name,
                direction=direction,
                weight=self.weight,
                message=hit.message,
                action=self.action,
            )


class RuleBook(Generic[P]):
    """The rules about one kind of thing, in the order of the page."""

    def __init__(self, subject: str) -> None:
        """``subject`` says in a few words what the rules are about."""
        self.subject = subject
        self.rules: list[Rule[P]] = []

    def rule(
        self, weight: Weight, action: str, direction: Direction = Direction.BOTH
    ) -> Callable[[Check[P]], Check[P]]:
        """Enter a function as a rule."""

        def enter(check: Check[P]) -> Check[P]:
            name = check.__name__.replace("_", "-")
            text = " ".join((check.__doc__ or "").split())
            self.rules.append(Rule(name, weight, direction, action, text, check))
            return check

        return enter

    def findings(self, pair: P, path: str, direction: Direction) -> Iterator[Finding]:
        """What all rules say of a pair."""
        for each in self.rules:
            yield from each.findings(pair, path, direction)
