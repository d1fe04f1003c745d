"""Figures of an installation that operators scale and alert by, and the one place where the scaling signal is computed.

Rules of the backlog, in seconds:

1. It is ``waiting`` operations, times the seconds that one holds a worker's slot, divided by the slots of all admitted
   workers: what the present workers would need for what waits, if nothing came.  While every slot is taken, slots divided
   by seconds each is exactly the rate at which they finish (Little's law); while some are free, it is the rate that they
   could finish, so that a slow trickle does not look like a backlog.
2. Operations behind a parked one do not count: they wait for a person, and no worker can help.
3. Seconds each are the mean of those that finished last, or of the age of those that run where that is more; before the
   first has finished, one second is assumed.
4. Where work waits and no worker is admitted there is no number: None, shown as "no worker" and exported as +Inf.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

ASSUMED_SECONDS = 1.0


class PartitionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in one partition now.

    ``waiting`` and ``running`` count operations, ``behind_parked`` those that wait for an operator, ``parked`` the keys
    (instances or nodes) that are parked.  ``oldest_waiting_at`` is when the longest waiting one was accepted (Unix
    seconds), ``running_since`` the mean of when the running ones began.  ``worker`` runs something of it now.
    """

    cluster: str
    partition: int
    waiting: int = 0
    running: int = 0
    behind_parked: int = 0
    parked: int = 0
    oldest_waiting_at: float | None = None
    running_since: float | None = None
    worker: str | None = None


class ClusterFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster's load, its means, and the scaling signal; ages and durations are seconds.

    ``backlog_seconds`` is None where work waits and no worker is admitted.  ``workers`` counts by state; ``slots`` is how
    many operations the admitted ones run side by side.  ``read_at`` (Unix seconds) is when all this was so.
    """

    cluster: str
    driver: str
    release: str | None
    waiting: int
    running: int
    behind_parked: int
    parked: int
    workers: dict[str, int]
    slots: int
    seconds_each: float
    backlog_seconds: float | None
    oldest_waiting_seconds: float
    read_at: float
    partitions: list[PartitionFigures]


def backlog_seconds(waiting: int, seconds_each: float, slots: int) -> float | None:
    """The scaling signal (rules 1 and 4)."""
    if waiting == 0:
        return 0.0
    return waiting * seconds_each / slots if slots > 0 else None


def seconds_each(finished: Iterable[float], running: Iterable[tuple[int, float]]) -> float:
    """How long one operation holds a slot (rule 3).

    ``finished`` are the durations of those that finished last, ``running`` (how many, their mean age) by partition.
    """
    durations = list(finished)
    groups = [(number, max(0.0, age)) for number, age in running if number > 0]
    at_work = sum(number for number, _ in groups)
    age = sum(number * mean for number, mean in groups) / at_work if at_work else 0.0
    if not durations:
        return max(age, ASSUMED_SECONDS)
    return max(sum(durations) / len(durations), age)
