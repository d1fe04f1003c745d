"""What a manager's store says happened, as the history checker's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from federation.contract.outcomes import OutcomeKind
from federation.manager.manager import Manager
from federation.protocol.records import OperationRecord
from federation.testing.history.records import Accepted, History, Settled
from federation.testing.hypervisor.log import read_log

_PAGE = 500


def operations_of(manager: Manager) -> Iterator[OperationRecord]:
    """Every operation in the store, newest first."""
    before: str | None = None
    while page := manager.operating.operations(before=before, limit=_PAGE):
        yield from page
        before = page[-1].id


def history_of(manager: Manager, state_directories: Iterable[Path]) -> History:
    """The manager's side from its store, the hypervisors' side from their own logs.

    Call it when everything should be settled: nothing counts as pending, so what has no outcome then is lost.
    """
    operations = list(operations_of(manager))
    logs = [read_log(directory) for directory in state_directories]
    return History(
        accepted=tuple(
            Accepted(
                operation=o.id, cluster=o.cluster, key=o.key, sequence=o.sequence, name=o.name, arguments=o.arguments
            )
            for o in operations
        ),
        settled=tuple(
            Settled(operation=o.id, kind=o.outcome.kind, code=o.outcome.code, attempts=o.attempt)
            for o in operations
            if o.outcome is not None
        ),
        effects=tuple(effect for log in logs for effect in log.effects),
        executions=tuple(execution for log in logs for execution in log.executions),
        finals=tuple(final for log in logs for final in log.finals),
        parked=frozenset(
            o.key for o in operations if o.outcome and o.outcome.kind is OutcomeKind.UNKNOWN and not o.resolution
        ),
    )
