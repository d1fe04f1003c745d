"""Rules about types: what may stand in a place, and the fields of structs.

A request travels from manager to driver, a result from driver to manager.  Either side may be the newer one, so each rule
thinks of both meetings:

- a newer manager asks no older driver for what is newer: it knows the pin and refuses (:mod:`federation.contract.since`).
  Therefore a request may take more than before, never less: the older manager goes on sending what it always sent;
- nobody holds a driver back.  Therefore a result may neither say more than before (the older manager cannot read it) nor
  be read more narrowly (the older driver goes on saying it); only a new field with a default passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from federation.contract.evolution import bounds
from federation.contract.evolution.pairs import MemberPair, PlacePair
from federation.contract.evolution.rule_book import Direction, Hit, RuleBook, Weight

PLACES: RuleBook[PlacePair] = RuleBook("what may stand in a place")
MEMBERS: RuleBook[MemberPair] = RuleBook("values and their limits")

OPEN_ENUMERATIONS = frozenset({"Capability", "PowerState"})
"""Enumerations of which a manager that reads a result leaves alone the values that it does not know."""

_REVISION = "Leave it as it was; say it in a new revision of the operation."
_MINOR = "Nothing; it needs a new minor release."
_WORDS = "Make sure that only the words changed."
_WATCHED = frozenset(
    {
        "title", "description", "type", "properties", "required", "items", "prefixItems", "propertyNames", "enum", "pattern",
        "additionalProperties", "anyOf", "discriminator", "default", "since", "$ref", *bounds.KEYWORDS,
    }
)  # fmt: skip
_REQUEST, _RESULT = Direction.REQUEST, Direction.RESULT


@PLACES.rule(Weight.BREAK, _REVISION)
def type_changed(pair: PlacePair) -> Iterator[Hit]:
    """Nothing of what stood here may stand here now: another type."""
    if pair.replaced():
        yield Hit("", f"it was {_kinds(pair.old.members)}, now {_kinds(pair.new.members)}")


@PLACES.rule(Weight.BREAK, "Keep the tag; it is what travels.")
def tag_renamed(pair: PlacePair) -> Iterator[Hit]:
    """A type of a tagged union bears another tag, or another field holds it."""
    for old, new in pair.retagged():
        yield Hit("", f"{old.name} was tagged {old.tag or 'not at all'}, now {new.tag or 'not at all'}")


@PLACES.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_null_refused(pair: PlacePair) -> Iterator[Hit]:
    """A request may no longer leave a value out by null."""
    if pair.old.nullable and not pair.new.nullable:
        yield Hit("", "null was allowed and is refused now")


@PLACES.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_null_allowed(pair: PlacePair) -> Iterator[Hit]:
    """A request may say null where it could not."""
    if pair.new.nullable and not pair.old.nullable:
        yield Hit("", "null is allowed now")


@PLACES.rule(Weight.BREAK, _REVISION, _RESULT)
def result_null_allowed(pair: PlacePair) -> Iterator[Hit]:
    """A result may say null where the older manager expects a value."""
    if pair.new.nullable and not pair.old.nullable:
        yield Hit("", "null is allowed now")


@PLACES.rule(Weight.BREAK, _REVISION, _RESULT)
def result_null_refused(pair: PlacePair) -> Iterator[Hit]:
    """A result may no longer say null; the older driver does."""
    if pair.old.nullable and not pair.new.nullable:
        yield Hit("", "null was allowed and is refused now")


@PLACES.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_alternative_removed(pair: PlacePair) -> Iterator[Hit]:
    """A request may no longer hold one of several types."""
    if not pair.replaced():
        for member in pair.removed():
            yield Hit("", f"{_kind(member)} is refused now")


@PLACES.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_alternative_added(pair: PlacePair) -> Iterator[Hit]:
    """A request may hold one more type."""
    if not pair.replaced():
        for member in pair.added():
            yield Hit("", f"{_kind(member)} is allowed now")


@PLACES.rule(Weight.BREAK, "Give the class `since_release`, naming the release that first has it.", _REQUEST)
def request_alternative_undated(pair: PlacePair) -> Iterator[Hit]:
    """A new struct in a request does not say which release it came with: managers would send it to older drivers."""
    for member in pair.added():
        said = pair.dates.since.get(member.name or "")
        if member.kind == "struct" and not pair.replaced() and not pair.dates.is_new(said):
            yield Hit("", f"{_kind(member)} is new since {pair.dates.old} and says {said or 'nothing'}")


@PLACES.rule(Weight.BREAK, _REVISION, _RESULT)
def result_alternative_added(pair: PlacePair) -> Iterator[Hit]:
    """A result may hold one more type, which the older manager cannot read."""
    if not pair.replaced():
        for member in pair.added():
            yield Hit("", f"{_kind(member)} is allowed now")


@PLACES.rule(Weight.BREAK, _REVISION, _RESULT)
def result_alternative_removed(pair: PlacePair) -> Iterator[Hit]:
    """A result may no longer hold one of several types; the older driver still answers it."""
    if not pair.replaced():
        for member in pair.removed():
            yield Hit("", f"{_kind(member)} is refused now")


@PLACES.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_number_widened(pair: PlacePair) -> Iterator[Hit]:
    """A request may hold any number where it held whole ones."""
    if pair.floated():
        yield Hit("", "it was a whole number, now any number")


@PLACES.rule(Weight.BREAK, _REVISION, _RESULT)
def result_number_widened(pair: PlacePair) -> Iterator[Hit]:
    """A result may hold any number where the older manager reads whole ones."""
    if pair.floated():
        yield Hit("", "it was a whole number, now any number")


@MEMBERS.rule(Weight.BREAK, "Keep the class's name; drivers import it by that name.")
def type_renamed(pair: MemberPair) -> Iterator[Hit]:
    """A type bears another name, or lost or got one: drivers import it by its name."""
    if pair.old.name != pair.new.name:
        yield Hit("", f"it was {pair.old.name or 'unnamed'}, now {pair.new.name or 'unnamed'}")


@MEMBERS.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_value_removed(pair: MemberPair) -> Iterator[Hit]:
    """An enumeration in a request lost a value that older managers send."""
    yield from _values(pair, added=False)


@MEMBERS.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_value_added(pair: MemberPair) -> Iterator[Hit]:
    """An enumeration in a request has one more value."""
    yield from _values(pair, added=True)


@MEMBERS.rule(Weight.BREAK, "Enter the value in `VALUES_SINCE` with the release that first has it.", _REQUEST)
def request_value_undated(pair: MemberPair) -> Iterator[Hit]:
    """A new value in a request does not say which release it came with: managers would send it to older drivers."""
    for hit in _values(pair, added=True):
        said = pair.dates.since.get(f"{pair.new.name}{hit.below}")
        if not pair.dates.is_new(said):
            yield Hit(hit.below, f"it is new since {pair.dates.old} and says {said or 'nothing'}")


@MEMBERS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_value_added(pair: MemberPair) -> Iterator[Hit]:
    """An enumeration in a result has a value that the older manager cannot read."""
    if pair.new.name not in OPEN_ENUMERATIONS:
        yield from _values(pair, added=True)


@MEMBERS.rule(Weight.ADDITION, _MINOR, _RESULT)
def result_open_value_added(pair: MemberPair) -> Iterator[Hit]:
    """An open enumeration in a result has one more value, which the older manager leaves alone."""
    if pair.new.name in OPEN_ENUMERATIONS:
        yield from _values(pair, added=True)


@MEMBERS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_value_removed(pair: MemberPair) -> Iterator[Hit]:
    """An enumeration in a result lost a value that the older driver still answers."""
    yield from _values(pair, added=False)


@MEMBERS.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_limit_narrowed(pair: MemberPair) -> Iterator[Hit]:
    """A request may say less: a limit is tighter, or new."""
    yield from _limits(pair, narrower=True)


@MEMBERS.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_limit_widened(pair: MemberPair) -> Iterator[Hit]:
    """A request may say more: a limit is looser, or gone; an older driver refuses what is beyond its own."""
    yield from _limits(pair, narrower=False)


@MEMBERS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_limit_widened(pair: MemberPair) -> Iterator[Hit]:
    """A result may say more than the older manager takes."""
    yield from _limits(pair, narrower=False)


@MEMBERS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_limit_narrowed(pair: MemberPair) -> Iterator[Hit]:
    """A result may say less than the older driver says."""
    yield from _limits(pair, narrower=True)


@MEMBERS.rule(Weight.BREAK, _REVISION)
def pattern_changed(pair: MemberPair) -> Iterator[Hit]:
    """A pattern is another one; nobody can tell whether it takes more or less."""
    old, new = pair.old.schema.get("pattern"), pair.new.schema.get("pattern")
    if old is not None and new is not None and old != new:
        yield Hit("", f"the pattern was {old}, now {new}")


@MEMBERS.rule(Weight.BREAK, "Leave it as it was: requests refuse unknown fields, results take them.")
def unknown_fields_treated_otherwise(pair: MemberPair) -> Iterator[Hit]:
    """A struct refuses unknown fields that it took, or takes what it refused: something is lost without a word."""
    if pair.old.kind == pair.new.kind == "struct":
        old, new = (member.schema.get("additionalProperties", True) for member in (pair.old, pair.new))
        if old != new:
            yield Hit("", f"unknown fields {'were taken and are refused' if old else 'were refused and are taken'} now")


@MEMBERS.rule(Weight.BREAK, "Write a rule for this keyword, or leave it as it was.")
def keyword_changed(pair: MemberPair) -> Iterator[Hit]:
    """The type says something that no other rule knows: what nobody has judged does not pass."""
    old, new = pair.old.schema, pair.new.schema
    for keyword in sorted((set(old) | set(new)) - _WATCHED):
        if old.get(keyword) != new.get(keyword):
            yield Hit("", f"{keyword} was {old.get(keyword)!r}, now {new.get(keyword)!r}")


@MEMBERS.rule(Weight.NOTE, _WORDS)
def description_changed(pair: MemberPair) -> Iterator[Hit]:
    """The words about a type, its unit among them, are different."""
    old, new = pair.old.schema.get("description"), pair.new.schema.get("description")
    if old != new:
        yield Hit("", f"it was {old!r}, now {new!r}")


def _values(pair: MemberPair, *, added: bool) -> Iterator[Hit]:
    old, new = pair.values()
    for value in sorted(map(str, new - old if added else old - new)):
        yield Hit(f"={value}", f"{value!r} is {'new' if added else 'gone'}")


def _limits(pair: MemberPair, *, narrower: bool) -> Iterator[Hit]:
    for change in bounds.changes(pair.old.schema, pair.new.schema):
        if change.narrower if narrower else change.wider:
            yield Hit("", change.message)


def _kind(member: Any) -> str:
    return str(member.name or member.kind) + (f" ({member.tag})" if member.tag else "")


def _kinds(members: Any) -> str:
    return " or ".join(_kind(member) for member in members.values()) or "null"
