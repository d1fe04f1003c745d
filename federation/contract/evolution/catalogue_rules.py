"""Rules about what operations share: the error catalogue, the capability flags, and what asks for a flag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from federation.contract.evolution.pairs import SnapshotPair
from federation.contract.evolution.rule_book import Hit, RuleBook, Weight

CATALOGUES: RuleBook[SnapshotPair] = RuleBook("errors and capabilities")

_MINOR = "Nothing; it needs a new minor release."
_NEW_CODE = "Leave this code as it was and add a new one."


@CATALOGUES.rule(Weight.BREAK, "Put it back; a code stays for the whole major release.")
def error_removed(pair: SnapshotPair) -> Iterator[Hit]:
    """A code is no longer in the catalogue: the other side still sends it."""
    for code in sorted(set(pair.old["errors"]) - set(pair.new["errors"])):
        yield Hit(f"errors/{code}", f"{code} is gone")


@CATALOGUES.rule(Weight.ADDITION, _MINOR)
def error_added(pair: SnapshotPair) -> Iterator[Hit]:
    """A new code, for new operations and revisions."""
    for code in sorted(set(pair.new["errors"]) - set(pair.old["errors"])):
        yield Hit(f"errors/{code}", f"{code} is new")


@CATALOGUES.rule(Weight.BREAK, _NEW_CODE)
def error_fault_changed(pair: SnapshotPair) -> Iterator[Hit]:
    """A code blames somebody else."""
    yield from _error_changes(pair, "fault")


@CATALOGUES.rule(Weight.BREAK, _NEW_CODE)
def error_effect_changed(pair: SnapshotPair) -> Iterator[Hit]:
    """A code says something else about the effect: callers would repeat what must not be repeated, or park what need not be."""
    yield from _error_changes(pair, "effect")


@CATALOGUES.rule(Weight.BREAK, _NEW_CODE)
def error_next_move_changed(pair: SnapshotPair) -> Iterator[Hit]:
    """A code tells its caller to do something else: callers program against the next move."""
    yield from _error_changes(pair, "next_move")


@CATALOGUES.rule(Weight.BREAK, "Put it back; a flag stays for the whole major release.")
def capability_removed(pair: SnapshotPair) -> Iterator[Hit]:
    """A flag is gone: drivers declare it and would be refused."""
    for flag in sorted(set(pair.old["capabilities"]) - set(pair.new["capabilities"])):
        yield Hit(f"capabilities/{flag}", f"{flag} is gone")


@CATALOGUES.rule(Weight.ADDITION, _MINOR)
def capability_added(pair: SnapshotPair) -> Iterator[Hit]:
    """A new flag; who does not know it leaves it alone."""
    for flag in sorted(set(pair.new["capabilities"]) - set(pair.old["capabilities"])):
        yield Hit(f"capabilities/{flag}", f"{flag} is new")


@CATALOGUES.rule(Weight.NOTE, "Make sure that only the words changed.")
def capability_meaning_changed(pair: SnapshotPair) -> Iterator[Hit]:
    """The sentence about a flag reads differently."""
    for flag, old, new in _both(pair.old["capabilities"], pair.new["capabilities"]):
        if old != new:
            yield Hit(f"capabilities/{flag}", f"it was {old!r}, now {new!r}")


@CATALOGUES.rule(Weight.BREAK, "Let a new field, value or operation ask for the flag.")
def need_added(pair: SnapshotPair) -> Iterator[Hit]:
    """A part of a request that could be used freely asks for a flag now."""
    old, new = pair.old["needs"], pair.new["needs"]
    for part in sorted(set(new) - set(old)):
        if _known_before(pair, part):
            yield Hit(f"needs/{part}", f"it needs {new[part]} now")


@CATALOGUES.rule(Weight.BREAK, "Leave it as it was; drivers rely on being asked only for what they declare.")
def need_changed(pair: SnapshotPair) -> Iterator[Hit]:
    """A part of a request asks for another flag, or for none: drivers that lack it would be asked."""
    for part, old in sorted(pair.old["needs"].items()):
        new = pair.new["needs"].get(part)
        if new != old and part.partition("=")[0] in pair.new["types"]:
            yield Hit(f"needs/{part}", f"it needed {old}, now {new or 'none'}")


def _error_changes(pair: SnapshotPair, fact: str) -> Iterator[Hit]:
    for code, old, new in _both(pair.old["errors"], pair.new["errors"]):
        if old[fact] != new[fact]:
            yield Hit(f"errors/{code}/{fact}", f"it was {old[fact]!r}, now {new[fact]!r}")


def _both(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(set(old) & set(new)):
        yield name, old[name], new[name]


def _known_before(pair: SnapshotPair, part: str) -> bool:
    """Whether the older release has a type (``BootImage``) or a type's value (``RebootMode=soft``)."""
    kind, _, value = part.partition("=")
    schema = pair.old["types"].get(kind)
    return schema is not None and (not value or value in schema.get("enum", ()))
