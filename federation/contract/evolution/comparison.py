"""Two releases compared: every rule on every pair, from the operations down to the limits of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from federation.contract.evolution.catalogue_rules import CATALOGUES
from federation.contract.evolution.field_rules import FIELDS
from federation.contract.evolution.operation_rules import OPERATIONS
from federation.contract.evolution.pairs import (
    Dates,
    MemberPair,
    OperationPair,
    PlacePair,
    Snapshot,
    SnapshotPair,
    operations_of,
)
from federation.contract.evolution.places import Member, Schema, reached, read_place
from federation.contract.evolution.rule_book import Direction, Finding, Weight
from federation.contract.evolution.type_rules import MEMBERS, PLACES

BOOKS = (OPERATIONS, CATALOGUES, PLACES, MEMBERS, FIELDS)
"""All rules, in the order of the page."""
_WEIGHTS = list(Weight)


def compare(old: Snapshot, new: Snapshot, history: Sequence[Snapshot] = ()) -> list[Finding]:
    """What changed from one release to another, breaks first.

    ``history`` are the frozen releases between the two: what was deprecated in one of them may be gone in ``new``.
    KeyError names a part or type that a damaged release file lacks.
    """
    pair = SnapshotPair(old, new, history)
    found = [*_operations(pair), *CATALOGUES.findings(pair, "contract", Direction.BOTH)]
    for direction in (Direction.REQUEST, Direction.RESULT):
        found += _Types(pair, direction).findings()
    return sorted(found, key=lambda finding: _WEIGHTS.index(finding.weight))


def _operations(pair: SnapshotPair) -> Iterator[Finding]:
    old, new = operations_of(pair.old), operations_of(pair.new)
    for key in [*old, *(key for key in new if key not in old)]:
        name, revision = key
        path = f"operations/{name}" + (f" {revision}" if revision > 1 else "")
        for finding in OPERATIONS.findings(OperationPair(key, old.get(key), new.get(key), pair), path, Direction.BOTH):
            yield msgspec.structs.replace(finding, operations=(name,))


class _Types:
    """The types of all operations that both releases have, in one direction.

    Each pair of named types is looked at once, under its own name, however many operations it is part of.
    """

    def __init__(self, releases: SnapshotPair, direction: Direction) -> None:
        self._old_types = releases.old["types"]
        self._new_types = releases.new["types"]
        self._dates = Dates(releases.old_release, releases.new_release, releases.new["since"])
        self._direction = direction
        old, new = operations_of(releases.old), operations_of(releases.new)
        fact = direction.value
        self._starts = [(key[0], old[key][fact], new[key][fact]) for key in old if key in new]
        self._seen: set[tuple[str | None, str | None]] = set()

    def findings(self) -> Iterator[Finding]:
        """What the rules about types say, each finding with the operations that it reaches."""
        users: dict[str, set[str]] = {}
        for operation, _, name in self._starts:
            for each in reached(name, self._new_types):
                users.setdefault(each, set()).add(operation)
        for _, old, new in self._starts:
            for finding in self._place(f"types/{new}", {"$ref": old}, {"$ref": new}):
                owner = finding.path.split("/")[1].partition("=")[0]
                yield msgspec.structs.replace(finding, operations=tuple(sorted(users.get(owner, ()))))

    def _place(self, path: str, old_schema: Schema, new_schema: Schema) -> Iterator[Finding]:
        old, new = read_place(old_schema, self._old_types), read_place(new_schema, self._new_types)
        yield from PLACES.findings(PlacePair(old, new, self._dates), path, self._direction)
        for key, member in old.members.items():
            if key in new.members:
                yield from self._member(path, member, new.members[key])

    def _member(self, path: str, old: Member, new: Member) -> Iterator[Finding]:
        if new.name is not None:
            if (old.name, new.name) in self._seen:
                return
            self._seen.add((old.name, new.name))
            path = f"types/{new.name}"
        pair = MemberPair(old, new, self._old_types, self._new_types, self._dates)
        yield from MEMBERS.findings(pair, path, self._direction)
        yield from FIELDS.findings(pair, path, self._direction)
        yield from self._parts(path, pair)

    def _parts(self, path: str, pair: MemberPair) -> Iterator[Finding]:
        old_fields, new_fields = pair.fields()
        for name in old_fields:
            if name in new_fields:
                yield from self._place(f"{path}/{name}", old_fields[name], new_fields[name])
        if pair.new.kind != "struct":
            for below, old, new in _inner(pair.old.schema, pair.new.schema):
                yield from self._place(f"{path}/{below}", old, new)


def _inner(old: Schema, new: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """The items of lists, the items of fixed lists one by one, the names and values of maps."""
    for below, keyword in (("names", "propertyNames"), ("values", "additionalProperties"), ("items", "items")):
        before, after = (schema.get(keyword) or {} for schema in (old, new))
        if before or after:
            yield below, before, after
    for index, (before, after) in enumerate(zip(old.get("prefixItems", ()), new.get("prefixItems", ()), strict=False)):
        yield str(index), before, after
