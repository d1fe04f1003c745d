"""Rules about operations: what a revision promises beside its types."""

from __future__ import annotations

from collections.abc import Iterator

from federation.contract.evolution.pairs import OperationPair, operations_of
from federation.contract.evolution.rule_book import Hit, RuleBook, Weight
from federation.contract.release import Release

OPERATIONS: RuleBook[OperationPair] = RuleBook("operations")

_REVISION = "Leave this revision as it was and declare the change as a new revision beside it."
_CYCLE = 2
"""Minor releases from the first deprecated one to the first that may drop it: one whole release lies between."""
_WATCHED = frozenset(
    {
        "name", "revision", "since", "summary", "lane", "ordering", "convergence", "capability", "request", "result",
        "errors", "default_deadline_seconds", "deprecated",
    }
)  # fmt: skip


@OPERATIONS.rule(Weight.BREAK, "Put it back; deprecate it, and drop it after one whole minor release.")
def operation_removed(pair: OperationPair) -> Iterator[Hit]:
    """A revision of an operation is gone without having been deprecated for one whole minor release."""
    if pair.old is not None and pair.new is None and not _may_go(pair):
        yield Hit("", f"revision {pair.key[1]} of {pair.key[0]} is gone and was not deprecated for one whole release")


@OPERATIONS.rule(Weight.NOTE, "Say so in the change log, with the replacement.")
def operation_dropped(pair: OperationPair) -> Iterator[Hit]:
    """A deprecated revision is gone after its time."""
    if pair.old is not None and pair.new is None and _may_go(pair):
        yield Hit("", f"revision {pair.key[1]} of {pair.key[0]} was deprecated and is gone")


@OPERATIONS.rule(Weight.ADDITION, "Nothing; it needs a new minor release.")
def operation_added(pair: OperationPair) -> Iterator[Hit]:
    """A new operation, or a new revision beside the old one."""
    if pair.old is None and pair.new is not None:
        yield Hit("", f"revision {pair.key[1]} of {pair.key[0]} is new")


@OPERATIONS.rule(Weight.BREAK, "Set `since` to the release that first has it.")
def since_wrong(pair: OperationPair) -> Iterator[Hit]:
    """`since` names another release than the first that has the revision."""
    if pair.new is None:
        return
    since, new, old = Release.parse(pair.new["since"]), pair.releases.new_release, pair.releases.old_release
    if pair.old is None and not (old < since <= new or since == new):
        yield Hit("since", f"it is new since {old} and says {since}")
    if changed := pair.changed("since"):
        yield Hit("since", f"it was {changed[0]}, now {changed[1]}")


@OPERATIONS.rule(Weight.BREAK, _REVISION)
def lane_changed(pair: OperationPair) -> Iterator[Hit]:
    """The lane is another: the other side waits for it elsewhere."""
    if changed := pair.changed("lane"):
        yield Hit("lane", f"it was {changed[0]}, now {changed[1]}")


@OPERATIONS.rule(Weight.BREAK, _REVISION)
def ordering_changed(pair: OperationPair) -> Iterator[Hit]:
    """It is ordered by something else: order and exclusion would no longer hold against what is queued."""
    if changed := pair.changed("ordering"):
        yield Hit("ordering", f"it was {changed[0]}, now {changed[1]}")


@OPERATIONS.rule(Weight.BREAK, _REVISION)
def convergence_changed(pair: OperationPair) -> Iterator[Hit]:
    """A repeat converges by another rule: a recovering driver of another release looks for the wrong trace."""
    if changed := pair.changed("convergence"):
        yield Hit("convergence", f"it was {changed[0]}, now {changed[1]}")


@OPERATIONS.rule(Weight.BREAK, _REVISION)
def capability_required(pair: OperationPair) -> Iterator[Hit]:
    """It needs a capability that drivers did not have to declare for it."""
    changed = pair.changed("capability")
    if changed and changed[1] is not None:
        yield Hit("capability", f"it needed {changed[0] or 'none'}, now {changed[1]}")


@OPERATIONS.rule(Weight.BREAK, _REVISION)
def capability_dropped(pair: OperationPair) -> Iterator[Hit]:
    """It needs no capability any more: drivers that do not have it would be asked."""
    changed = pair.changed("capability")
    if changed and changed[1] is None:
        yield Hit("capability", f"it needed {changed[0]}, now every driver would have to do it")


@OPERATIONS.rule(Weight.BREAK, "Raise a code that is declared, or declare the new one on a new revision.")
def error_declared(pair: OperationPair) -> Iterator[Hit]:
    """An existing revision may end with a code that its callers do not expect."""
    old, new = pair.changed("errors") or ([], [])
    for code in sorted(set(new) - set(old)):
        yield Hit(f"errors/{code}", f"it may now end with {code}")


@OPERATIONS.rule(Weight.ADDITION, "Nothing; it needs a new minor release.")
def error_withdrawn(pair: OperationPair) -> Iterator[Hit]:
    """An existing revision no longer ends with a code."""
    old, new = pair.changed("errors") or ([], [])
    for code in sorted(set(old) - set(new)):
        yield Hit(f"errors/{code}", f"it no longer ends with {code}")


@OPERATIONS.rule(Weight.BREAK, "Keep the class's name; drivers import it by that name.")
def request_or_result_renamed(pair: OperationPair) -> Iterator[Hit]:
    """Request or result is another class: drivers import it by its name."""
    for fact in ("request", "result"):
        if changed := pair.changed(fact):
            yield Hit(fact, f"it was {changed[0]}, now {changed[1]}")


@OPERATIONS.rule(Weight.NOTE, "Say so in the change log.")
def deadline_changed(pair: OperationPair) -> Iterator[Hit]:
    """The default deadline is another; it travels with each operation, so nobody is confused."""
    if changed := pair.changed("default_deadline_seconds"):
        yield Hit("default_deadline_seconds", f"it was {changed[0]:g} s, now {changed[1]:g} s")


@OPERATIONS.rule(Weight.NOTE, "Make sure that only the words changed.")
def summary_changed(pair: OperationPair) -> Iterator[Hit]:
    """The summary reads differently."""
    if changed := pair.changed("summary"):
        yield Hit("summary", f"it was {changed[0]!r}, now {changed[1]!r}")


@OPERATIONS.rule(Weight.ADDITION, "Say so in the change log, with the replacement.")
def operation_deprecated(pair: OperationPair) -> Iterator[Hit]:
    """A revision is deprecated."""
    old, new = pair.changed("deprecated") or (None, None)
    if new and not old:
        yield Hit("deprecated", f"use {_shown(new['replaced_by'])}; {new['removal']} may drop it")


@OPERATIONS.rule(Weight.NOTE, "Say so in the change log.")
def deprecation_withdrawn(pair: OperationPair) -> Iterator[Hit]:
    """A revision is no longer deprecated."""
    old, new = pair.changed("deprecated") or (None, None)
    if old and not new:
        yield Hit("deprecated", "it stays after all")


@OPERATIONS.rule(Weight.BREAK, "Name the release that first says so.")
def deprecation_dated_wrong(pair: OperationPair) -> Iterator[Hit]:
    """A deprecation names another release than the one that first says so."""
    old, new = pair.changed("deprecated") or (None, None)
    first, last = pair.releases.old_release, pair.releases.new_release
    if new and not old and not first < Release.parse(new["since"]) <= last:
        yield Hit("deprecated/since", f"it says {new['since']} and is first said between {first} and {last}")


@OPERATIONS.rule(Weight.BREAK, "Name a release at least two minor releases later, or the next major one.")
def deprecation_too_short(pair: OperationPair) -> Iterator[Hit]:
    """Less than one whole minor release lies between the deprecation and the release that may drop it."""
    new = pair.new and pair.new.get("deprecated")
    if new:
        since, removal = Release.parse(new["since"]), Release.parse(new["removal"])
        if removal < Release(since.major, since.minor + _CYCLE):
            yield Hit("deprecated/removal", f"deprecated in {since} and dropped in {removal} already")


@OPERATIONS.rule(Weight.BREAK, "Keep the promised release, or a later one.")
def removal_brought_forward(pair: OperationPair) -> Iterator[Hit]:
    """A deprecated revision may go earlier than was promised."""
    old, new = pair.changed("deprecated") or (None, None)
    if old and new and Release.parse(new["removal"]) < Release.parse(old["removal"]):
        yield Hit("deprecated/removal", f"it was {old['removal']}, now {new['removal']}")


@OPERATIONS.rule(Weight.BREAK, "Name an operation and revision of this release that is not deprecated itself.")
def replacement_missing(pair: OperationPair) -> Iterator[Hit]:
    """The replacement of a deprecated revision does not exist, or is deprecated itself."""
    new = pair.new and pair.new.get("deprecated")
    if new:
        name, revision = new["replaced_by"]
        replacement = operations_of(pair.releases.new).get((name, revision))
        if replacement is None or replacement.get("deprecated"):
            yield Hit("deprecated/replaced_by", f"{_shown((name, revision))} cannot replace it")


@OPERATIONS.rule(Weight.BREAK, "Write a rule for this fact, or leave it as it was.")
def operation_fact_changed(pair: OperationPair) -> Iterator[Hit]:
    """A fact that no other rule knows is different: what nobody has judged does not pass."""
    for fact in sorted(set(pair.old or ()) - _WATCHED):
        if changed := pair.changed(fact):
            yield Hit(fact, f"it was {changed[0]!r}, now {changed[1]!r}")


def _may_go(pair: OperationPair) -> bool:
    deprecations = sorted(pair.releases.deprecations(pair.key), key=lambda each: each[0])
    if not deprecations:
        return False
    first, promised = deprecations[0][0], max(Release.parse(terms["removal"]) for _, terms in deprecations)
    return pair.releases.new_release >= max(promised, Release(first.major, first.minor + _CYCLE))


def _shown(operation: tuple[str, int] | list[object]) -> str:
    return f"{operation[0]} revision {operation[1]}"
