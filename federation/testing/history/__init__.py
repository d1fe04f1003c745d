"""The history checker: judges by the hypervisors' own effect logs what became of every accepted operation.

report = check(History(accepted=..., settled=..., effects=log.effects, executions=log.executions, finals=log.finals))
print(report.to_text())
"""

from federation.testing.history.checker import check
from federation.testing.history.findings import Counts, Finding, FindingKind, Report
from federation.testing.history.records import (
    ABSENT,
    Accepted,
    Effect,
    Execution,
    Final,
    History,
    Seen,
    Settled,
)

__all__ = [
    "ABSENT",
    "Accepted",
    "Counts",
    "Effect",
    "Execution",
    "Final",
    "Finding",
    "FindingKind",
    "History",
    "Report",
    "Seen",
    "Settled",
    "check",
]
