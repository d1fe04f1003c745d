"""The demonstration's verdict: every line is computed, and every line must hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from federation.protocol.records import OperationRecord, OperationState
from federation.testing.history import FindingKind, Report


@dataclass(frozen=True, slots=True)
class Line:
    """One claim of the verdict: what, how much, what it has to be, whether it is."""

    title: str
    value: str
    holds: bool
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The worker that was dropped, and what it ran at that moment."""

    worker: str
    cluster: str
    operations: tuple[str, ...]


def judge(operations: Sequence[OperationRecord], report: Report, dropped: Dropped) -> list[Line]:
    """All lines."""
    accepted = len(operations)
    succeeded = sum(o.state is OperationState.SUCCEEDED for o in operations)
    counts, tally = report.counts, report.tally()
    recovered = [o for o in operations if o.id in dropped.operations and o.worker != dropped.worker]
    moved, theirs = moved_partitions(operations, dropped)
    none_of = {kind: f"{number}" for kind, number in tally.items()}
    lines = [
        Line("accepted", str(accepted), counts.accepted == accepted > 0),
        Line("applied once", str(counts.applied_once), counts.applied_once == accepted, "by the hypervisors' own logs"),
        Line("succeeded", str(succeeded), succeeded == accepted),
        *(Line(str(kind), none_of[kind], tally[kind] == 0) for kind in FindingKind),
        Line("parked", str(counts.parked), counts.parked == 0),
    ]
    in_flight = [o for o in operations if o.id in dropped.operations]
    reported = len(in_flight) - len(recovered)
    lines.append(
        Line(
            "recovered",
            f"{len(recovered)} of {len(in_flight)}",
            bool(in_flight) and all(o.state is OperationState.SUCCEEDED for o in in_flight),
            f"in flight on {dropped.worker}" + (f"; {reported} had reported before the cut" if reported else ""),
        )
    )
    idle = "; no work was left in the others" if moved < theirs else ""
    remark = f"of {dropped.worker}, to the other worker{idle}"
    lines.append(Line("moved partitions", f"{moved} of {theirs}", 0 < moved <= theirs, remark))
    return lines


def moved_partitions(operations: Sequence[OperationRecord], dropped: Dropped) -> tuple[int, int]:
    """Of the partitions that the dropped worker had served: how many another one served later, and how many at all.

    What another worker finished counts, so a partition that had no work left is not among those that moved.
    """
    lines: dict[int, list[OperationRecord]] = defaultdict(list)
    for operation in operations:
        if operation.cluster == dropped.cluster and operation.started_at is not None:
            lines[operation.partition].append(operation)
    served = moved = 0
    for line in lines.values():
        line.sort(key=lambda o: o.finished_at or 0.0)
        hands = [o.worker for o in line]
        lost = [o for o in line if o.id in dropped.operations]
        if dropped.worker in hands or lost:
            served += 1
            moved += hands[-1] != dropped.worker
    return moved, served
