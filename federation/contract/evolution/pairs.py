"""The pairs that rules are handed: the older and the newer form of the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from federation.contract.evolution.places import Member, Place, Schema, Types
from federation.contract.release import Release

Snapshot = Mapping[str, Any]
"""A release file as data."""
Facts = Mapping[str, Any]
Key = tuple[str, int]
"""Name and revision of an operation."""


@dataclass(frozen=True, slots=True)
class SnapshotPair:
    """Two releases; ``history`` are all frozen releases from the older to the newer one, in their order."""

    old: Snapshot
    new: Snapshot
    history: Sequence[Snapshot] = ()

    @property
    def old_release(self) -> Release:
        """The older one's number."""
        return Release.parse(self.old["release"])

    @property
    def new_release(self) -> Release:
        """The newer one's number."""
        return Release.parse(self.new["release"])

    def reaches(self, key: Key) -> bool:
        """Whether both releases have this revision of an operation."""
        return key in operations_of(self.old) and key in operations_of(self.new)

    def deprecations(self, key: Key) -> Iterable[tuple[Release, Facts]]:
        """In which releases a revision was deprecated, and on what terms."""
        for release in (self.old, *self.history):
            facts = operations_of(release).get(key)
            if facts is not None and facts.get("deprecated"):
                yield Release.parse(release["release"]), facts["deprecated"]


@dataclass(frozen=True, slots=True)
class OperationPair:
    """One revision of an operation in two releases; None where it is missing."""

    key: Key
    old: Facts | None
    new: Facts | None
    releases: SnapshotPair

    def changed(self, fact: str) -> tuple[Any, Any] | None:
        """Old and new value of a fact if they differ and the older release knows the fact."""
        if self.old is None or self.new is None or fact not in self.old:
            return None
        old, new = self.old[fact], self.new.get(fact)
        return None if old == new else (old, new)


@dataclass(frozen=True, slots=True)
class Dates:
    """What is said about when parts came: ``since`` has types (``BootImage``) and values (``RebootMode=soft``)."""

    old: Release
    new: Release
    since: Mapping[str, str]

    def is_new(self, said: str | None) -> bool:
        """Whether a part says rightly that it came after the older release."""
        return said is not None and (self.old < Release.parse(said) <= self.new or said == str(self.new))


@dataclass(frozen=True, slots=True)
class PlacePair:
    """A place where a value stands, before and after."""

    old: Place
    new: Place
    dates: Dates

    def removed(self) -> list[Member]:
        """Members that the newer form lacks, except renamed and widened ones."""
        return [m for key, m in self.old.members.items() if key not in self.new.members and not self._twin(m, self.new)]

    def added(self) -> list[Member]:
        """Members that the older form lacks, except renamed and widened ones."""
        return [m for key, m in self.new.members.items() if key not in self.old.members and not self._twin(m, self.old)]

    def retagged(self) -> list[tuple[Member, Member]]:
        """Types that bear another tag than before."""
        pairs = ((m, self._twin(m, self.new)) for key, m in self.old.members.items() if key not in self.new.members)
        return [(old, new) for old, new in pairs if new is not None and new.kind == "struct"]

    def replaced(self) -> bool:
        """Whether nothing of what stood here before may stand here now."""
        return bool(self.old.members) and not set(self.old.members) & set(self.new.members) and bool(self.removed())

    def floated(self) -> bool:
        """Whether whole numbers became numbers."""
        return self._floats(self.old, self.new)

    @staticmethod
    def _floats(old: Place, new: Place) -> bool:
        return "integer" in old.members and "integer" not in new.members and "number" in new.members

    def _twin(self, member: Member, other: Place) -> Member | None:
        """What a member that is missing by its key became on the other side."""
        if member.kind in {"integer", "number"} and self.floated():
            return other.members.get("number" if member.kind == "integer" else "integer")
        if member.name is None or member.kind != "struct":
            return None
        return next((m for m in other.members.values() if m.name == member.name), None)


@dataclass(frozen=True, slots=True)
class MemberPair:
    """What may stand in a place, before and after, with the types that either release knows."""

    old: Member
    new: Member
    old_types: Types
    new_types: Types
    dates: Dates

    def fields(self) -> tuple[dict[str, Schema], dict[str, Schema]]:
        """The fields of two structs; none when they are something else."""
        if self.old.kind != "struct" or self.new.kind != "struct":
            return {}, {}
        return dict(self.old.schema["properties"]), dict(self.new.schema["properties"])

    def required(self) -> tuple[set[str], set[str]]:
        """The fields that must be there, before and after."""
        return set(self.old.schema.get("required", ())), set(self.new.schema.get("required", ()))

    def values(self) -> tuple[set[Any], set[Any]]:
        """The values of two enumerations; none when they are something else."""
        if self.old.kind != "enum" or self.new.kind != "enum":
            return set(), set()
        return set(self.old.schema["enum"]), set(self.new.schema["enum"])


def operations_of(snapshot: Snapshot) -> dict[Key, Facts]:
    """The operations of a release by name and revision."""
    return {(facts["name"], facts["revision"]): facts for facts in snapshot["operations"]}
