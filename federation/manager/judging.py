"""The manager's side of the error boundary: what workers report is a word of the contract, or a bug of their driver.

Rules (DESIGN §5.3):

1. A result that is none of the operation's, and a code that the operation does not declare, is ``driver_bug``.
2. Every driver bug, by a worker's own word or by this judgement, is counted under the driver's name.
3. An operation that this manager does not know was accepted by a newer one, and workers served it: its outcome counts as it
   is, if its code is one of the catalogue.
4. What has been judged is given in the revision that the caller speaks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from federation.contract.errors import CATALOGUE, ContractMismatch, DriverBug, OperationError
from federation.contract.operations import Operation
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.adapting import Adapting
from federation.manager.counters import ManagerCounters
from federation.protocol.admission import without_unknown_flags
from federation.protocol.queries import QueryReply, error_from_wire
from federation.protocol.records import OperationRecord

log = logging.getLogger(__name__)

_ALWAYS = frozenset({DriverBug.code, ContractMismatch.code})
"""Codes that the worker itself reports of any operation."""


class Judging:
    """Judges outcomes and answers; ``driver`` is, or gives, the name of the cluster's driver."""

    def __init__(self, adapting: Adapting, counters: ManagerCounters) -> None:
        self.adapting = adapting
        self._counters = counters

    def outcome(self, record: OperationRecord, outcome: Outcome, driver: Callable[[], str]) -> Outcome:
        """The outcome that is written down: the reported one in the caller's revision, or a driver bug."""
        judged = self._judged(record, outcome)
        if judged.code == DriverBug.code:
            name, told = driver(), judged.message[:500]
            self._counters.driver_bug(name)
            log.error("driver bug driver=%s operation=%s name=%s: %r", name, record.id, record.name, told)
        return judged

    def answer(self, asked: Operation, sent: Operation, raw: Mapping[str, Any], driver: str) -> dict[str, Any]:
        """The result of a query in the caller's revision; raises what the worker reported, or DriverBug."""
        try:
            return self._answered(asked, sent, raw)
        except DriverBug as error:
            self._counters.driver_bug(driver)
            log.error("driver bug driver=%s query=%s: %r", driver, sent.name, error.message[:500])  # noqa: TRY400 (what happened is in the message)
            raise

    def _judged(self, record: OperationRecord, outcome: Outcome) -> Outcome:
        revisions = self.adapting.revisions
        try:
            sent = revisions.find(record.name, record.revision)
            asked = revisions.find(record.name, record.asked_revision or record.revision)
        except ContractMismatch:
            known = outcome.kind is OutcomeKind.SUCCEEDED or outcome.code in CATALOGUE
            return outcome if known else _bug(outcome, f"the worker reported {outcome.code!r}, which is no code")
        if outcome.kind is OutcomeKind.SUCCEEDED:
            wrong = _wrong_result(sent, without_unknown_flags(outcome.result or {}))
            if wrong is not None:
                return _bug(outcome, f"the worker reported a result that is no {sent.result.__name__}: {wrong}")
            result = self.adapting.result_for(asked, sent, outcome.result or {})
            return outcome if asked is sent else msgspec.structs.replace(outcome, result=result)
        if outcome.kind is OutcomeKind.REFUSED:
            return _bug(outcome, f"the worker refused what it had been granted: {outcome.message}")
        if outcome.code in sent.errors | _ALWAYS:
            return outcome
        return _bug(
            outcome, f"the worker reported {outcome.code!r}, which {record.name} does not declare: {outcome.message}"
        )

    def _answered(self, asked: Operation, sent: Operation, raw: Mapping[str, Any]) -> dict[str, Any]:
        try:
            reply = msgspec.convert(raw, QueryReply)
        except msgspec.ValidationError as error:
            raise DriverBug(f"a worker answered {sent.name} with something else: {error}") from error
        if reply.error is not None:
            raise self._reported(sent, error_from_wire(reply.error))
        result = reply.result or {}
        wrong = _wrong_result(sent, without_unknown_flags(result))
        if wrong is not None:
            raise DriverBug(f"a worker answered {sent.name} with what is no {sent.result.__name__}: {wrong}")
        return self.adapting.result_for(asked, sent, result)

    def _reported(self, sent: Operation, error: OperationError) -> OperationError:
        if error.code in sent.errors | _ALWAYS:
            return error
        return DriverBug(f"a worker answered {error.code!r}, which {sent.name} does not declare: {error.message}")


def _wrong_result(operation: Operation, result: object) -> str | None:
    """Why this is no result of the operation, None when it is one; fields of newer releases may be in it."""
    try:
        msgspec.convert(result, operation.result, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _bug(outcome: Outcome, message: str) -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, code=DriverBug.code, message=message, detail=outcome.detail)
