"""The checker: a history in, a report out.  Pure, and linear in the number of records but for sorting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from federation.contract.outcomes import OutcomeKind
from federation.testing.history.findings import Counts, Finding, FindingKind, Report
from federation.testing.history.lines import cut
from federation.testing.history.order import check_order
from federation.testing.history.outcomes import check_outcomes
from federation.testing.history.records import History, Settled


def check(history: History) -> Report:
    """Judge everything that happened.

    ValueError when the history itself makes no sense: an operation accepted twice, a sequence given twice.
    """
    findings = list(_settled_oddly(history))
    for line in cut(history):
        findings.extend(check_order(line))
        findings.extend(check_outcomes(line, history))
    return Report(counts=_count(history, findings), findings=tuple(findings))


def _settled_oddly(history: History) -> Iterator[Finding]:
    accepted = {one.operation: one for one in history.accepted}
    first: dict[str, Settled] = {}
    for settled in history.settled:
        operation = accepted.get(settled.operation)
        cluster, key = (operation.cluster, operation.key) if operation else ("", "")
        earlier = first.setdefault(settled.operation, settled)
        if operation is None:
            message = f"operation {settled.operation} was settled and never accepted"
            yield Finding(kind=FindingKind.UNACCOUNTED, cluster=cluster, key=key, message=message, records=(settled,))
        if earlier is not settled:
            message = f"operation {settled.operation} was settled twice"
            yield Finding(
                kind=FindingKind.CONTRADICTED, cluster=cluster, key=key, message=message, records=(earlier, settled)
            )


def _count(history: History, findings: list[Finding]) -> Counts:
    accused = {getattr(record, "operation", None) for finding in findings for record in finding.records}
    succeeded = {s.operation for s in history.settled if s.kind is OutcomeKind.SUCCEEDED}
    return Counts(
        accepted=len(history.accepted),
        settled=dict(Counter(str(settled.kind) for settled in history.settled)),
        pending=len(history.pending),
        parked=len(history.parked),
        effects=len(history.effects),
        executions=len(history.executions),
        applied_once=len(succeeded - accused),
    )
