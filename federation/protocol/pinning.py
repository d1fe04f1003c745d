"""Which contract release a cluster is pinned to (oslo.messaging's version cap), and who may join.

1. A cluster speaks the highest release that all its live workers and the manager serve.
2. A worker that cannot serve what is already queued is refused, and told both ranges.
3. With no live worker the pin stays: what is queued was written in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federation.contract.errors import ContractMismatch
from federation.contract.release import CURRENT, LOWEST, Release

Range = tuple[Release, Release]


def highest_common(ranges: Sequence[Range]) -> Release | None:
    """The highest release in all of these ranges, within what this manager serves; None when there is none."""
    lowest = max([LOWEST, *(low for low, _ in ranges)])
    highest = min([CURRENT, *(high for _, high in ranges)])
    return highest if lowest <= highest else None


def pin_with(worker: Range, live: Iterable[Range], queued: Iterable[Release]) -> Release:
    """The pin once this worker has joined; raises ContractMismatch that names both ranges."""
    others = list(live)
    pin = highest_common([worker, *others])
    if pin is None:
        theirs = highest_common(others)
        message = (
            f"the worker serves contract releases {worker[0]} to {worker[1]}; this cluster "
            f"{f'speaks {theirs}' if others and theirs else f'is managed in {LOWEST} to {CURRENT}'}"
        )
        raise ContractMismatch(message, worker=f"{worker[0]}-{worker[1]}", manager=f"{LOWEST}-{CURRENT}")
    unserved = sorted(r for r in set(queued) if not worker[0] <= r <= worker[1])
    if unserved:
        message = (
            f"operations of release {', '.join(map(str, unserved))} are queued and the worker serves "
            f"{worker[0]} to {worker[1]}"
        )
        raise ContractMismatch(message, worker=f"{worker[0]}-{worker[1]}", queued=", ".join(map(str, unserved)))
    return pin
