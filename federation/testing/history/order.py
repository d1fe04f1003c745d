"""Rules about when things happened: claims C1, C2 and the half of C3 that can be seen without outcomes.

1. *duplicated*: an operation makes each visible effect (kind and target) at most once, over all of its attempts; what was
   undone, so that the instance was again as the operation found it, does not count.
2. *overlapping*: two effects of different executions never share a moment; nor do two executions of the same attempt; nor
   does an execution share one with an earlier operation's deciding execution (that of the last attempt granted).
3. *out of order*: no effect of operation s starts after one of a later operation; a later operation's execution does not
   begin before the deciding execution of s.
4. *revoked effects*: no effect of attempt n starts after attempt n + 1 or a newer one has made an effect, has been let
   through by its guard, or has ended.  That an older execution merely lingers (a worker that was paused) is allowed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from federation.contract.outcomes import OutcomeKind
from federation.testing.history.findings import Finding, FindingKind
from federation.testing.history.lines import ENVIRONMENT, Line
from federation.testing.history.records import Effect, Execution, Record, Settled


def check_order(line: Line) -> Iterator[Finding]:
    """Every violation of the rules above in one line."""
    yield from _duplicated(line)
    yield from _overlapping_effects(line)
    yield from _overlapping_attempt(line)
    yield from _out_of_order_effects(line)
    yield from _executions_too_early(line)
    yield from _revoked(line)


def _finding(line: Line, kind: FindingKind, message: str, *records: Record) -> Finding:
    return Finding(kind=kind, cluster=line.cluster, key=line.key, message=message, records=records)


def _moment(effect: Effect) -> tuple[float, float]:
    return effect.started, effect.sequence


def _duplicated(line: Line) -> Iterator[Finding]:
    befores = line.befores()
    for operation, effects in line.effects_by_operation().items():
        made: defaultdict[tuple[str, str], list[Effect]] = defaultdict(list)
        repeated: dict[tuple[str, str], list[Effect]] = {}
        for effect in effects:
            if effect.after == befores[operation]:
                made.clear()
            elif effect.visible:
                made[effect.kind, effect.target].append(effect)
                if len(made[effect.kind, effect.target]) > 1:
                    repeated[effect.kind, effect.target] = made[effect.kind, effect.target]
        for (kind, target), copies in repeated.items():
            what = f"{kind} {target}".strip()
            message = f"operation {operation} ({copies[0].name}) made {what} {len(copies)} times"
            yield _finding(line, FindingKind.DUPLICATED, message, *copies)


def _overlapping_effects(line: Line) -> Iterator[Finding]:
    latest: Effect | None = None  # of all effects so far the one that ends last
    other: Effect | None = None  # the one that ends last among those of other executions than ``latest``
    for effect in sorted(line.effects, key=_moment):
        if effect.operation == ENVIRONMENT:
            continue
        rival = other if latest is not None and latest.execution == effect.execution else latest
        if rival is not None and effect.started < rival.ended:
            message = f"{_who(rival)} made {rival.kind} while {_who(effect)} made {effect.kind}"
            yield _finding(line, FindingKind.OVERLAPPING, message, rival, effect)
        if latest is None or effect.ended >= latest.ended:
            if latest is not None and latest.execution != effect.execution:
                other = latest
            latest = effect
        elif latest.execution != effect.execution and (other is None or effect.ended >= other.ended):
            other = effect


def _overlapping_attempt(line: Line) -> Iterator[Finding]:
    by_attempt: defaultdict[tuple[str, int], list[Execution]] = defaultdict(list)
    for execution in line.executions:
        by_attempt[execution.operation, execution.attempt].append(execution)
    last_acts = _last_acts(line)
    for executions in by_attempt.values():
        ordered = sorted(executions, key=lambda execution: execution.began)
        for earlier, later in pairwise(ordered):
            end = earlier.ended if earlier.ended is not None else last_acts.get(earlier.id, earlier.began)
            if later.began < end:
                message = f"attempt {later.attempt} of operation {later.operation} ({later.name}) ran twice at a time"
                yield _finding(line, FindingKind.OVERLAPPING, message, earlier, later)


def _last_acts(line: Line) -> dict[int, float]:
    acts: dict[int, float] = {}
    for effect in line.effects:
        acts[effect.execution] = max(effect.ended, acts.get(effect.execution, -math.inf))
    return acts


def _out_of_order_effects(line: Line) -> Iterator[Finding]:
    sequences = line.sequences()
    newest: Effect | None = None
    late: defaultdict[str, list[Effect]] = defaultdict(list)
    before: dict[str, Effect] = {}
    for effect in sorted(line.effects, key=_moment):
        sequence = sequences.get(effect.operation)
        if sequence is None:
            continue
        if newest is not None and sequence < sequences[newest.operation]:
            late[effect.operation].append(effect)
            before.setdefault(effect.operation, newest)
        else:
            newest = effect
    for operation, effects in late.items():
        later = before[operation]
        message = (
            f"operation {operation} ({effects[0].name}, number {sequences[operation]}) acted after"
            f" {later.operation} ({later.name}, number {sequences[later.operation]})"
        )
        yield _finding(line, FindingKind.OUT_OF_ORDER, message, later, *effects)


def _executions_too_early(line: Line) -> Iterator[Finding]:
    executions = line.executions_by_operation()
    last: Execution | None = None  # the deciding execution, of all earlier operations, that ended last
    for accepted in line.accepted:
        mine = executions.get(accepted.operation, [])
        if mine and last is not None and last.ended is not None and mine[0].began < last.ended:
            early = mine[0]
            kind = FindingKind.OVERLAPPING if early.began >= last.began else FindingKind.OUT_OF_ORDER
            message = (
                f"operation {early.operation} ({early.name}) began before the end of the earlier"
                f" {last.operation} ({last.name})"
            )
            yield _finding(line, kind, message, last, early)
        deciding = _deciding(mine, line.settled.get(accepted.operation))
        if deciding is not None and (last is None or (deciding.ended or 0.0) > (last.ended or 0.0)):
            last = deciding


def _deciding(executions: list[Execution], settled: Settled | None) -> Execution | None:
    if settled is None or settled.kind not in {OutcomeKind.SUCCEEDED, OutcomeKind.FAILED}:
        return None
    mine = [e for e in executions if e.attempt == settled.attempts and e.ended is not None and e.how != "revoked"]
    return mine[-1] if mine else None


def _revoked(line: Line) -> Iterator[Finding]:
    executions = line.executions_by_operation()
    for operation, effects in line.effects_by_operation().items():
        yield from _revoked_of(line, effects, executions.get(operation, []))


def _revoked_of(line: Line, effects: list[Effect], executions: list[Execution]) -> Iterator[Finding]:
    claims: dict[int, tuple[tuple[float, float], Record]] = {}

    def claim(attempt: int, moment: tuple[float, float], record: Record) -> None:
        if attempt not in claims or moment < claims[attempt][0]:
            claims[attempt] = (moment, record)

    for effect in effects:
        claim(effect.attempt, _moment(effect), effect)
    for execution in executions:
        if execution.guarded is not None:
            claim(execution.attempt, (execution.guarded, math.inf), execution)
        if execution.ended is not None and execution.how is not None and _answered(execution.how):
            claim(execution.attempt, (execution.ended, math.inf), execution)
    for attempt in sorted({effect.attempt for effect in effects}):
        newer = [claims[n] for n in claims if n > attempt]
        if not newer:
            continue
        moment, record = min(newer, key=lambda one: one[0])
        late = [effect for effect in effects if effect.attempt == attempt and _moment(effect) > moment]
        if late:
            message = f"attempt {attempt} of operation {late[0].operation} ({late[0].name}) acted after a newer attempt"
            yield _finding(line, FindingKind.REVOKED, message, record, *late)


def _answered(how: str) -> bool:
    return how == "returned" or how.startswith("raised ")


def _who(effect: Effect) -> str:
    return f"attempt {effect.attempt} of operation {effect.operation} ({effect.name})"
