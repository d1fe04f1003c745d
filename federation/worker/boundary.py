"""The error boundary: whatever a driver does, what comes out is an outcome of the contract (DESIGN §5.3).

Rules:

1. Before the driver is called nothing has happened: a request that cannot be read or that this worker does not serve
   ends as failed, with a code whose effect is ``none``.  But of a later attempt: an earlier one may have acted (on
   another worker, of another release), nobody here can look, and the outcome is unknown.
2. A catalogue error that the operation declares passes, with its message and detail cleaned; the code's own effect in
   the catalogue, not the raised object, says whether the outcome is failed or unknown.
3. Every other exception, of any class, and every result that is not of the declared type is ``driver_bug``: unknown.
   Only the exception's class name leaves the process; the traceback goes to the log, cleaned.
4. Revoked ends a call without an outcome, but only where the worker really revoked it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from federation.contract.adapters import REVISIONS, Revisions, is_part, removal_of
from federation.contract.call import Call, Revoked
from federation.contract.capabilities import Capabilities
from federation.contract.driver import Driver
from federation.contract.errors import (
    CATALOGUE,
    ContractMismatch,
    DriverBug,
    Effect,
    InvalidRequest,
    OperationError,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.operations import Lane, Operation
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.contract.release import CURRENT, LOWEST, Release
from federation.contract.requests import Request
from federation.contract.validation import check_capabilities, parse_request
from federation.protocol.worker_actions import Held
from federation.worker.calls import QueryCall, RunningCall
from federation.worker.counters import Counters
from federation.worker.redaction import Redactor, class_name

_log = logging.getLogger(__name__)
_LONGEST_DETAIL = 16
_KEPT = (bytes, bytearray, memoryview, datetime, date, time, timedelta, UUID, Decimal)
"""Types that msgspec would turn into text, so that a wrong one could pass for text."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one driver serves, as it describes itself."""

    driver: str
    lowest: Release
    highest: Release
    capabilities: Capabilities


def method_name(operation: Operation) -> str:
    """The driver's method of an operation: its name, and from revision 2 on the revision behind it."""
    return operation.name if operation.revision == 1 else f"{operation.name}_{operation.revision}"


def code_of(error: BaseException) -> str:
    """The catalogue's code by the exception's class, whatever the object says of itself; "" when it has none."""
    return next((code for code, known in CATALOGUE.items() if issubclass(type(error), known)), "")


class Boundary:
    """Calls one driver and lets nothing but outcomes out."""

    def __init__(  # noqa: PLR0913 (what it judges by)
        self,
        driver: Driver,
        served: Served,
        redactor: Redactor,
        counters: Counters,
        max_outcome_bytes: int,
        revisions: Revisions = REVISIONS,
    ) -> None:
        self._revisions = revisions
        self._methods: dict[str, object] = {
            method_name(operation): getattr(driver, method_name(operation), None) for operation in revisions.declared
        }
        self._served = served
        self._redactor = redactor
        self._counters = counters
        self._max_outcome_bytes = max_outcome_bytes

    def execute(self, held: Held, call: RunningCall) -> Outcome | None:
        """Run an ordered operation; None when it was revoked."""
        command = held.command
        try:
            self._check_release(command.name, command.release)
            if held.error is not None:
                message = f"{command.name}: the request cannot be read: {held.error}"
                raise InvalidRequest(message)
            operation, request, method = self._prepare(command.name, command.revision, command.arguments, Lane.ORDERED)
        except OperationError as error:
            return self._cannot_recover(call, error) if call.recovering else self._refusal(error)
        try:
            result = method(call, request)
        except Revoked as error:
            return None if call.revoked else self._bug(operation, error, "said that it was revoked, which it was not")
        except BaseException as error:  # noqa: BLE001 — rule 3: SystemExit and KeyboardInterrupt of a driver are its bugs
            return self._raised(operation, error)
        return self._returned(operation, result)

    def query(self, name: object, revision: object, arguments: object, call: QueryCall) -> Outcome:
        """Run a query."""
        try:
            operation, request, method = self._prepare(name, revision, arguments, Lane.QUERY)
        except OperationError as error:
            return self._refusal(error)
        try:
            result = method(call, request)
        except Revoked as error:
            if call.given_up:
                return self._refusal(TimedOut(f"{name} was given up after {call.seconds:g} s"))
            outcome = self._bug(operation, error, "said that a query was revoked")
        except BaseException as error:  # noqa: BLE001 — rule 3
            outcome = self._raised(operation, error)
        else:
            outcome = self._returned(operation, result)
        if call.tried_to_change and outcome.code != DriverBug.code:
            return self._bug(operation, None, "wanted to change something on the hypervisor")
        return outcome

    # Before the driver is called

    def _check_release(self, name: str, release: str) -> None:
        lowest, highest = max(LOWEST, self._served.lowest), min(CURRENT, self._served.highest)
        try:
            wanted = Release.parse(release)
        except InvalidRequest as error:
            raise ContractMismatch(error.message) from error
        if not lowest <= wanted <= highest:
            message = f"{name} was sent in contract release {wanted}; this worker serves {lowest} to {highest}"
            raise ContractMismatch(message, release=wanted, worker=f"{lowest}-{highest}")

    def _prepare(
        self, name: object, revision: object, arguments: object, lane: Lane
    ) -> tuple[Operation, Request, Callable[[Call, Request], object]]:
        if not (isinstance(name, str) and isinstance(revision, int)):
            message = (
                f"an operation is named by a text and a number, not by {class_name(name)} and {class_name(revision)}"
            )
            raise InvalidRequest(message)
        operation = self._revisions.find(name, revision)
        if operation.lane is not lane:
            message = f"{name} travels in the lane {operation.lane}, it came in the lane {lane}"
            raise ContractMismatch(message, operation=name)
        lowest, highest = self._served.lowest, self._served.highest
        if not is_part(operation, lowest, highest):
            went = f" and went with {removal_of(operation)}" if removal_of(operation) else ""
            message = (
                f"{name} revision {revision} came with contract release {operation.since}{went}; "
                f"the driver serves {lowest} to {highest}"
            )
            raise ContractMismatch(message, operation=name, revision=revision)
        request = self._parse(operation, arguments)
        check_capabilities(operation, request, self._served.capabilities)
        method = self._methods[method_name(operation)]
        if not callable(method):
            message = f"the driver {self._served.driver} has no method for {name} revision {revision}"
            raise ContractMismatch(message, operation=name, revision=revision)
        return operation, request, method

    def _parse(self, operation: Operation, arguments: object) -> Request:
        if not isinstance(arguments, dict):
            message = f"{operation.name}: arguments are a {class_name(arguments)}, expected a map"
            raise InvalidRequest(message)
        try:
            return parse_request(operation, arguments)
        except OperationError:
            raise
        except Exception as error:
            message = f"{operation.name}: the request cannot be read ({class_name(error)})"
            raise InvalidRequest(message) from error

    # After it

    def _raised(self, operation: Operation, error: BaseException) -> Outcome:
        if not operation.may_raise(code_of(error)):
            return self._bug(operation, error, f"raised {class_name(error)}, which it does not declare")
        try:
            return self._refusal(error)
        except Exception as failure:  # noqa: BLE001 — a driver's own subclass may break in its own properties
            return self._bug(operation, failure, f"raised a broken {class_name(error)}")

    def _cannot_recover(self, call: RunningCall, error: OperationError) -> Outcome:
        refusal = self._refusal(error)
        message = f"attempt {call.attempt} cannot recover what an earlier one may have begun: {refusal.message}"
        detail = {**refusal.detail, "cause": error.code}
        return Outcome(kind=OutcomeKind.UNKNOWN, code=OutcomeUnknown.code, message=message, detail=detail)

    def _refusal(self, error: Any) -> Outcome:
        code = code_of(error)
        kind = OutcomeKind.UNKNOWN if CATALOGUE[code].effect is Effect.UNKNOWN else OutcomeKind.FAILED
        detail = {
            self._redactor.text(str(name), 64): self._redactor.text(str(value), 512)
            for name, value in list(error.detail.items())[:_LONGEST_DETAIL]
        }
        return Outcome(kind=kind, code=code, message=self._redactor.text(str(error.message)), detail=detail)

    def _returned(self, operation: Operation, result: object) -> Outcome:
        if not isinstance(result, operation.result):
            told = f"returned a {class_name(result)}, expected a {operation.result.__name__}"
            return self._bug(operation, None, told)
        try:
            checked = msgspec.convert(msgspec.to_builtins(result, builtin_types=_KEPT), operation.result, strict=True)
            outcome = Outcome(kind=OutcomeKind.SUCCEEDED, result=msgspec.to_builtins(checked))
            size = len(msgspec.msgpack.encode(outcome))
        except Exception as error:  # noqa: BLE001 — whatever is wrong inside a result, the driver put it there
            return self._bug(operation, error, f"returned a {operation.result.__name__} with a wrong value in it")
        if size > self._max_outcome_bytes:
            told = f"returned a result of {size} bytes, at most {self._max_outcome_bytes} can be sent"
            return self._bug(operation, None, told)
        return outcome

    def _bug(self, operation: Operation, error: BaseException | None, told: str) -> Outcome:
        driver = self._served.driver
        self._counters.driver_bug(driver)
        trace = self._redactor.traceback(error) if error is not None else "(nothing was raised)"
        _log.error("driver bug driver=%s operation=%s problem=%r\n%s", driver, operation.name, told, trace)
        message = f"the driver {driver} {told}"
        return Outcome(kind=OutcomeKind.UNKNOWN, code=DriverBug.code, message=message, detail={"driver": driver})
