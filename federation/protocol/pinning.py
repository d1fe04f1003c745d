"""Which contract release a cluster is pinned to (oslo.messaging's version cap), and who may join.

1. A cluster speaks the highest release that all its live workers and the manager serve.
2. A worker that cannot serve what is already queued waits while others carry that out, and the pin comes down to it at once, so
   that nothing more is queued that it cannot serve: the way back to an older driver, under load.
3. Where nobody else can carry it out, such a worker is refused, and told both ranges.
4. With no live worker the pin stays: what is queued was written in it.
5. What a cluster can do is what all its workers can do: the flags that every one declares, the lowest of their limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from federation.contract.capabilities import Capabilities, Limits
from federation.contract.errors import ContractMismatch
from federation.contract.release import CURRENT, LOWEST, Release

Range = tuple[Release, Release]


MANAGED: Range = (LOWEST, CURRENT)
"""What this manager serves."""


def highest_common(ranges: Sequence[Range], managed: Range = MANAGED) -> Release | None:
    """The highest release in all of these ranges, within what the managers serve; None when there is none."""
    lowest = max([managed[0], *(low for low, _ in ranges)])
    highest = min([managed[1], *(high for _, high in ranges)])
    return highest if lowest <= highest else None


class Joining(NamedTuple):
    """The pin from now on; the worker is admitted once nothing of ``waits_for`` is queued any more."""

    pin: Release
    waits_for: tuple[Release, ...] = ()


def join(
    worker: Range,
    live: Iterable[Range],
    queued: Iterable[Release],
    managed: Range = MANAGED,
    waiting: Iterable[Range] = (),
) -> Joining:
    """How this worker joins the live ones and those that wait to join; raises ContractMismatch that names both ranges."""
    others = list(live)
    pin = pin_for([worker, *others], waiting, managed)
    if pin is None:
        theirs = highest_common(others, managed)
        message = (
            f"the worker serves contract releases {worker[0]} to {worker[1]}; this cluster "
            f"{f'speaks {theirs}' if others and theirs else f'is managed in {managed[0]} to {managed[1]}'}"
        )
        raise ContractMismatch(message, worker=f"{worker[0]}-{worker[1]}", manager=f"{managed[0]}-{managed[1]}")
    unserved = tuple(sorted(r for r in set(queued) if not _serves(worker, r)))
    if any(not any(_serves(other, release) for other in others) for release in unserved):
        message = (
            f"operations of release {', '.join(map(str, unserved))} are queued and the worker serves "
            f"{worker[0]} to {worker[1]}"
        )
        raise ContractMismatch(message, worker=f"{worker[0]}-{worker[1]}", queued=", ".join(map(str, unserved)))
    return Joining(pin, unserved)


def pin_for(live: Sequence[Range], waiting: Iterable[Range] = (), managed: Range = MANAGED) -> Release | None:
    """The pin of these workers; those that wait to join bring it down, where that is possible without the live ones' loss."""
    return highest_common([*live, *waiting], managed) or highest_common(live, managed)


def _serves(worker: Range, release: Release) -> bool:
    return worker[0] <= release <= worker[1]


def common_capabilities(declared: Sequence[Capabilities]) -> Capabilities:
    """What all of these workers (at least one) can do."""
    flags = frozenset.intersection(*(capabilities.flags for capabilities in declared))
    lowest: dict[str, int | None] = {}
    for name in Limits.__struct_fields__:
        given = [getattr(capabilities.limits, name) for capabilities in declared]
        lowest[name] = min((limit for limit in given if limit is not None), default=None)
    formats = [capabilities.image_formats for capabilities in declared if capabilities.image_formats]
    common = frozenset.intersection(*formats) if formats else frozenset()
    return Capabilities(flags=flags, limits=msgspec.convert(lowest, Limits), image_formats=common)
