"""Revisions of one operation side by side, and the functions that carry a call from one to another (DESIGN §5.4).

Rules:

1. An operation that proved wrong is not changed; a new revision of it stands beside it, and an ``Adapter`` between the two.
2. A revision is part of the releases from ``since`` on, up to and without the one that its deprecation names as ``removal``.
3. A caller may use any revision; what goes to the workers is a revision of the release that their cluster speaks: the same
   one where it can be, otherwise the newest one that adapters lead to.
4. Adapting loses nothing: a request that the other revision cannot say is refused with the name of the field.  A result
   is adapted after the fact and cannot be refused: its function takes every result of its revision.

Adapters work on builtin types: what comes in has passed the checks of its revision, what comes out goes through those of
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from federation.contract import errors as e
from federation.contract.operations import DECLARED, Operation
from federation.contract.since import Numbers, numbers

Plain = dict[str, Any]
"""A request or result in builtin types."""

Adapt = Callable[[Plain], Plain]


class CannotAdapt(Exception):
    """The other revision cannot say this; ``field`` names what it has no word for, ``why`` is for people."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Between two revisions of one operation: ``up`` goes from the older to the newer.

    The request functions may raise CannotAdapt; the result functions may not.
    """

    name: str
    older: int
    newer: int
    request_up: Adapt
    request_down: Adapt
    result_up: Adapt
    result_down: Adapt


ADAPTERS: tuple[Adapter, ...] = ()
"""The adapters of this release."""


def only_default(arguments: Mapping[str, Any], field: str, default: object) -> Plain:
    """The arguments without a field that the other revision lacks; CannotAdapt when it says more than its default."""
    rest = dict(arguments)
    if rest.pop(field, default) != default:
        raise CannotAdapt(field, f"the other revision has no such field; it could only be {default!r}")
    return rest


class Revisions:
    """Every revision of every operation, and the ways between them.  ValueError for adapters that lead nowhere."""

    def __init__(self, declared: Iterable[Operation] = DECLARED, adapters: Iterable[Adapter] = ADAPTERS) -> None:
        self.declared = tuple(declared)
        self._by_key = {(operation.name, operation.revision): operation for operation in self.declared}
        self._adapters = tuple(adapters)
        for adapter in self._adapters:
            ends = {(adapter.name, adapter.older), (adapter.name, adapter.newer)}
            if not (adapter.older < adapter.newer and ends <= self._by_key.keys()):
                message = (
                    f"an adapter of {adapter.name} leads from revision {adapter.older} to {adapter.newer}: not declared"
                )
                raise ValueError(message)

    def find(self, name: str, revision: int = 1) -> Operation:
        """The declaration; raises ContractMismatch that names what is known."""
        found = self._by_key.get((name, revision))
        if found is not None:
            return found
        known = sorted(o.revision for o in self.declared if o.name == name)
        if known:
            told = f"known are its revisions {', '.join(map(str, known))}"
        else:
            told = f"known are: {', '.join(sorted({o.name for o in self.declared}))}"
        message = f"operation {name!r} revision {revision} is not part of this contract; {told}"
        raise e.ContractMismatch(message, operation=name, revision=revision)

    def served_in(self, lowest: Numbers, highest: Numbers) -> Iterator[Operation]:
        """The revisions that are part of any release of this range (rule 2)."""
        return (operation for operation in self.declared if is_part(operation, lowest, highest))

    def sendable(self, asked: Operation, spoken: Numbers) -> Operation:
        """The revision to send to workers that speak this release (rule 3); ContractMismatch when there is none."""
        if is_part(asked, spoken, spoken):
            return asked
        reached = [operation for operation in self._reachable(asked) if is_part(operation, spoken, spoken)]
        if reached:
            return max(reached, key=lambda operation: operation.revision)
        said = f"{spoken[0]}.{spoken[1]}"
        removal = removal_of(asked)
        came = f"came with contract release {asked.since}" + (f" and went with {removal}" if removal else "")
        message = f"{asked.name} revision {asked.revision} {came}; the cluster speaks {said}"
        raise e.ContractMismatch(
            message, operation=asked.name, revision=asked.revision, since=asked.since, cluster=said
        )

    def adapt_request(self, asked: Operation, sent: Operation, arguments: Plain) -> Plain:
        """The request of ``asked`` as one of ``sent``; InvalidRequest names the field that cannot be said."""
        for adapter, up in self._way(asked, sent):
            try:
                arguments = (adapter.request_up if up else adapter.request_down)(arguments)
            except CannotAdapt as error:
                message = (
                    f"{asked.name} revision {asked.revision}: the cluster serves revision {sent.revision} only, which "
                    f"cannot carry {error.field}: {error.why}"
                )
                raise e.InvalidRequest(message, field=error.field, operation=asked.name) from error
        return arguments

    def adapt_result(self, asked: Operation, sent: Operation, result: Plain) -> Plain:
        """The result of ``sent`` as one of ``asked``."""
        for adapter, up in self._way(sent, asked):
            result = (adapter.result_up if up else adapter.result_down)(result)
        return result

    def _reachable(self, start: Operation) -> Iterator[Operation]:
        return (self._by_key[start.name, revision] for revision in self._ways(start) if revision != start.revision)

    def _way(self, start: Operation, end: Operation) -> list[tuple[Adapter, bool]]:
        return self._ways(start)[end.revision]

    def _ways(self, start: Operation) -> dict[int, list[tuple[Adapter, bool]]]:
        """By revision: the shortest chain of adapters from ``start``, each with whether it goes up."""
        ways: dict[int, list[tuple[Adapter, bool]]] = {start.revision: []}
        front = [start.revision]
        while front:
            here = front.pop(0)
            for adapter in self._adapters:
                if adapter.name != start.name or here not in {adapter.older, adapter.newer}:
                    continue
                there = adapter.newer if here == adapter.older else adapter.older
                if there not in ways:
                    ways[there] = [*ways[here], (adapter, here == adapter.older)]
                    front.append(there)
        return ways


def removal_of(operation: Operation) -> str | None:
    """The first release that does without this revision, None while none is named."""
    deprecated = operation.deprecated
    return None if deprecated is None else str(deprecated.removal)


def is_part(operation: Operation, lowest: Numbers, highest: Numbers) -> bool:
    """Whether a revision is part of any release of this range."""
    removal = removal_of(operation)
    return numbers(operation.since) <= highest and (removal is None or lowest < numbers(removal))


REVISIONS = Revisions()
"""The revisions of this release."""
