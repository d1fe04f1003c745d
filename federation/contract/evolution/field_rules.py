"""Rules about the fields of structs.  :mod:`federation.contract.evolution.type_rules` says why the directions differ."""

from __future__ import annotations

from collections.abc import Iterator

from federation.contract.evolution.pairs import MemberPair
from federation.contract.evolution.places import field_release, plain_default, tag_field
from federation.contract.evolution.rule_book import Direction, Hit, RuleBook, Weight

FIELDS: RuleBook[MemberPair] = RuleBook("fields")

_REVISION = "Leave it as it was; say it in a new revision of the operation."
_MINOR = "Nothing; it needs a new minor release."
_DEFAULT = "Give it a default that means what was meant before it existed."
_DATE = "Annotate the field with `since(...)`, naming the release that first has it."
_REQUEST, _RESULT = Direction.REQUEST, Direction.RESULT


@FIELDS.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_field_removed(pair: MemberPair) -> Iterator[Hit]:
    """A request lost a field that older managers send."""
    yield from _removed(pair)


@FIELDS.rule(Weight.BREAK, _DEFAULT, _REQUEST)
def request_field_added_required(pair: MemberPair) -> Iterator[Hit]:
    """A request has a new field that older managers do not send."""
    yield from _added(pair, required=True)


@FIELDS.rule(Weight.BREAK, _DATE, _REQUEST)
def request_field_undated(pair: MemberPair) -> Iterator[Hit]:
    """A new field of a request does not say which release it came with: managers would send it to older drivers."""
    _, new = pair.fields()
    for hit in _added(pair, required=False):
        if not pair.dates.is_new(field_release(new[hit.below])):
            yield Hit(
                hit.below, f"it is new since {pair.dates.old} and says {field_release(new[hit.below]) or 'nothing'}"
            )


@FIELDS.rule(Weight.BREAK, "Put the old release back.")
def field_redated(pair: MemberPair) -> Iterator[Hit]:
    """A field says that it came with another release than before."""
    old, new = pair.fields()
    for field in sorted(set(old) & set(new)):
        before, after = field_release(old[field]), field_release(new[field])
        if before != after:
            yield Hit(field, f"it came with {before or 'its struct'}, now {after or 'its struct'}")


@FIELDS.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_field_added(pair: MemberPair) -> Iterator[Hit]:
    """A request has a new field with a default."""
    yield from _added(pair, required=False)


@FIELDS.rule(Weight.BREAK, _REVISION, _REQUEST)
def request_field_became_required(pair: MemberPair) -> Iterator[Hit]:
    """A request must say what older managers leave out."""
    yield from _became(pair, required=True)


@FIELDS.rule(Weight.ADDITION, _MINOR, _REQUEST)
def request_field_became_optional(pair: MemberPair) -> Iterator[Hit]:
    """A request may leave out what it had to say."""
    yield from _became(pair, required=False)


@FIELDS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_field_removed(pair: MemberPair) -> Iterator[Hit]:
    """A result lost a field that older managers read."""
    yield from _removed(pair)


@FIELDS.rule(Weight.BREAK, _DEFAULT, _RESULT)
def result_field_added_required(pair: MemberPair) -> Iterator[Hit]:
    """A result has a new field that older drivers do not answer."""
    yield from _added(pair, required=True)


@FIELDS.rule(Weight.ADDITION, _MINOR, _RESULT)
def result_field_added(pair: MemberPair) -> Iterator[Hit]:
    """A result has a new field with a default."""
    yield from _added(pair, required=False)


@FIELDS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_field_became_optional(pair: MemberPair) -> Iterator[Hit]:
    """A result may leave out what older managers expect."""
    yield from _became(pair, required=False)


@FIELDS.rule(Weight.BREAK, _REVISION, _RESULT)
def result_field_became_required(pair: MemberPair) -> Iterator[Hit]:
    """A result must say what older drivers leave out."""
    yield from _became(pair, required=True)


@FIELDS.rule(Weight.BREAK, "Put the old default back; a new meaning is a new field.")
def default_changed(pair: MemberPair) -> Iterator[Hit]:
    """Leaving a field out means something else than before."""
    old, new = pair.fields()
    old_required, new_required = pair.required()
    for field in sorted(set(old) & set(new) - old_required - new_required):
        before, after = plain_default(old[field], pair.old_types), plain_default(new[field], pair.new_types)
        # 1 and True are equal in Python and different in a message.
        if (before, type(before)) != (after, type(after)):
            yield Hit(field, f"the default was {before!r}, now {after!r}")


@FIELDS.rule(Weight.NOTE, "Make sure that only the words changed.")
def field_description_changed(pair: MemberPair) -> Iterator[Hit]:
    """The words about a field, its unit among them, are different."""
    old, new = pair.fields()
    for field in sorted(set(old) & set(new)):
        before, after = old[field].get("description"), new[field].get("description")
        # Of other fields the words stand with the value, where the rule about types sees them.
        if not {"$ref", "anyOf"}.isdisjoint({*old[field], *new[field]}) and before != after:
            yield Hit(field, f"it was {before!r}, now {after!r}")


def _removed(pair: MemberPair) -> Iterator[Hit]:
    old, new = pair.fields()
    for field in sorted(set(old) - set(new) - {tag_field(pair.old)}):
        yield Hit(field, f"the field {field} is gone")


def _added(pair: MemberPair, *, required: bool) -> Iterator[Hit]:
    old, new = pair.fields()
    _, must = pair.required()
    for field in sorted(set(new) - set(old) - {tag_field(pair.new)}):
        if (field in must) is required:
            yield Hit(field, f"the field {field} is new" + (" and has no default" if required else ""))


def _became(pair: MemberPair, *, required: bool) -> Iterator[Hit]:
    old, new = pair.fields()
    before, after = pair.required()
    changed = after - before if required else before - after
    for field in sorted(changed & set(old) & set(new)):
        yield Hit(
            field, f"{field} {'had a default and is required' if required else 'was required and may be left out'} now"
        )
