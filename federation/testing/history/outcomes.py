"""Rules about what the outcomes say: claim C4 and the other half of C3.

1. *lost*: an accepted operation is settled, pending, or its instance is parked.
2. *contradicted outcomes*: what succeeded shows its end (``expectations``); what was refused made no effect; what failed
   with a code whose effect is known left the instance as it was before; the instance's final state is what its last
   succeeded operation says.  Of an unknown outcome nothing is asked.
3. *unaccounted*: every effect belongs to an accepted operation and to an attempt that was granted; what is on the
   hypervisor at the end is what the effect log ends with.
"""

from __future__ import annotations

from collections.abc import Iterator

from federation.contract.errors import CATALOGUE
from federation.contract.errors import Effect as Known
from federation.contract.outcomes import OutcomeKind
from federation.testing.history.expectations import EXPECTATIONS, Expected
from federation.testing.history.findings import Finding, FindingKind
from federation.testing.history.lines import Line
from federation.testing.history.records import ABSENT, Accepted, Effect, History, Record, Seen, Settled


def check_outcomes(line: Line, history: History) -> Iterator[Finding]:
    """Every violation of the rules above in one line."""
    yield from _lost(line, history)
    yield from _unaccounted(line)
    yield from _contradicted(line)


def _finding(line: Line, kind: FindingKind, message: str, *records: Record) -> Finding:
    return Finding(kind=kind, cluster=line.cluster, key=line.key, message=message, records=records)


def _lost(line: Line, history: History) -> Iterator[Finding]:
    if line.key in history.parked:
        return
    for accepted in line.accepted:
        if accepted.operation not in line.settled and accepted.operation not in history.pending:
            message = f"operation {accepted.operation} ({accepted.name}) was accepted and is nowhere"
            effects = [effect for effect in line.effects if effect.operation == accepted.operation]
            yield _finding(line, FindingKind.LOST, message, accepted, *effects)


def _unaccounted(line: Line) -> Iterator[Finding]:
    known = line.sequences()
    for operation, effects in line.effects_by_operation().items():
        settled = line.settled.get(operation)
        if operation not in known:
            message = f"operation {operation} ({effects[0].name}) was never accepted for this instance"
            yield _finding(line, FindingKind.UNACCOUNTED, message, *effects)
        elif settled is not None and settled.attempts:
            never = [effect for effect in effects if effect.attempt > settled.attempts]
            if never:
                message = f"attempt {never[0].attempt} of operation {operation} ({never[0].name}) was never granted"
                yield _finding(line, FindingKind.UNACCOUNTED, message, settled, *never)
    last = line.effects[-1].after if line.effects else ABSENT
    if line.final is not None and line.final.seen != last:
        message = "the hypervisor shows another state than its effect log ends with"
        yield _finding(line, FindingKind.UNACCOUNTED, message, line.final, *line.effects[-1:])


def _contradicted(line: Line) -> Iterator[Finding]:
    befores = line.befores()
    effects = line.effects_by_operation()
    state: Seen | None = ABSENT if line.starts_with_nothing else None
    standing: tuple[Accepted, Expected] | None = None
    for accepted in line.accepted:
        mine = effects.get(accepted.operation, [])
        before = befores[accepted.operation] if mine else state
        state = mine[-1].after if mine else state
        settled = line.settled.get(accepted.operation)
        if settled is None or settled.kind is OutcomeKind.UNKNOWN:
            standing = None if mine or settled is not None else standing
            continue
        if settled.kind is not OutcomeKind.SUCCEEDED:
            yield from _left_effects(line, settled, mine, before)
            standing = standing if not mine or before == state else None
            continue
        rule = EXPECTATIONS.get(accepted.name)
        expected = rule(before, accepted.arguments) if rule else None
        wrong = expected.mismatch(state) if expected and state is not None and (mine or not line.disturbed) else None
        if wrong is not None:
            message = f"operation {accepted.operation} ({accepted.name}) succeeded, but {wrong}"
            yield _finding(line, FindingKind.CONTRADICTED, message, accepted, settled, *mine)
        standing = None if wrong is not None or expected is None else (accepted, expected)
    yield from _final(line, standing)


def _left_effects(line: Line, settled: Settled, mine: list[Effect], before: Seen | None) -> Iterator[Finding]:
    if not mine:
        return
    name = f"operation {settled.operation} ({mine[0].name})"
    if settled.kind is OutcomeKind.REFUSED:
        yield _finding(line, FindingKind.CONTRADICTED, f"{name} was refused, yet it acted", settled, *mine)
        return
    error = CATALOGUE.get(settled.code or "")
    if error is None or error.effect is Known.UNKNOWN or before is None or before == mine[-1].after:
        return
    message = f"{name} failed with {error.code}, which leaves nothing changed, yet it left {mine[-1].kind}"
    yield _finding(line, FindingKind.CONTRADICTED, message, settled, *mine)


def _final(line: Line, standing: tuple[Accepted, Expected] | None) -> Iterator[Finding]:
    if line.final is None or standing is None or line.disturbed:
        return
    accepted, expected = standing
    wrong = expected.mismatch(line.final.seen)
    if wrong is not None:
        message = f"in the end {wrong}, by operation {accepted.operation} ({accepted.name}), the last that succeeded"
        yield _finding(line, FindingKind.CONTRADICTED, message, accepted, line.final)
