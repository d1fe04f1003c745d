"""The process that holds the driver: opens it, runs errands in threads, and dies when a script says so."""

from __future__ import annotations

import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from federation.conformance.errands import (
    Close,
    Done,
    Errand,
    NotOpened,
    Opened,
    decode_order,
    decode_start,
    encode,
)
from federation.conformance.scripted_call import ScriptedCall
from federation.conformance.target import Target, TargetInvalid, convert_settings, driver_class
from federation.contract.call import Call, Revoked
from federation.contract.errors import OperationError
from federation.contract.operations import Lane, Operation, find
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.contract.release import CURRENT
from federation.contract.struct_types import prepare_types
from federation.contract.validation import parse_request
from federation.protocol.envelope import Command
from federation.protocol.lease import Lease, LeaseTerms
from federation.protocol.worker_actions import Held, StartCall
from federation.worker.boundary import Boundary, code_of, method_name
from federation.worker.calls import QueryCall
from federation.worker.counters import Counters
from federation.worker.drivers import OpenDriver, open_driver
from federation.worker.errors import WorkerError
from federation.worker.redaction import class_name
from federation.worker.settings import WorkerSettings

_LASTS = 1e9
"""Seconds; a lease that never runs out by itself."""


def serve(pipe: Connection) -> None:
    """The process's main function: the first message says what to open, then errands come until Close or the pipe's end."""
    target = decode_start(pipe.recv_bytes()).target
    try:
        opened = open_driver(driver_class(target.driver), convert_settings(target), target.conformance.cluster)
    except (WorkerError, TargetInvalid) as error:
        pipe.send_bytes(encode(NotOpened(message=str(error))))
        return
    prepare_types()
    host = DriverHost(pipe, target, opened)
    host.say(Opened(description=opened.description))
    host.run()
    opened.driver.close()


class DriverHost:
    """One open driver; the kit is at the other end of the pipe."""

    def __init__(self, pipe: Connection, target: Target, opened: OpenDriver) -> None:
        self._pipe = pipe
        self._target = target
        self._opened = opened
        self._sending = threading.Lock()
        largest = WorkerSettings(worker="conformance", cluster=target.conformance.cluster).max_outcome_bytes
        self._boundary = Boundary(opened.driver, opened.served, opened.redactor, Counters(), largest)

    def run(self) -> None:
        """Take errands, each in a thread of its own."""
        while True:
            try:
                order = decode_order(self._pipe.recv_bytes())
            except EOFError:  # the kit is gone
                return
            if isinstance(order, Close):
                return
            threading.Thread(target=self._do, args=(order,), name=order.name, daemon=True).start()

    def say(self, word: Opened | Done) -> None:
        """Send to the kit."""
        with self._sending:
            self._pipe.send_bytes(encode(word))

    def _do(self, errand: Errand) -> None:
        operation = find(errand.name)
        self.say(self._query(errand, operation) if operation.lane is Lane.QUERY else self._change(errand, operation))

    def _change(self, errand: Errand, operation: Operation) -> Done:
        held = self._held(errand)
        now = time.monotonic()
        lease = Lease(terms=LeaseTerms(), ends=now + _LASTS)
        call = ScriptedCall(StartCall(call=1, held=held, attempt=errand.attempt, lease=lease), errand.script)
        if errand.bare:
            outcome, words, detail = self._bare(operation, errand, call)
        else:
            outcome, words, detail = self._boundary.execute(held, call), "", {}
        call.ended()
        return Done(
            number=errand.number, outcome=outcome, trace=tuple(call.trace), guards=call.guards, began=now,
            ended=time.monotonic(), error=words, detail=detail,
        )  # fmt: skip

    def _query(self, errand: Errand, operation: Operation) -> Done:
        now = time.monotonic()
        call = QueryCall(self._target.conformance.cluster, self._target.conformance.query_seconds)
        if errand.bare:
            outcome, words, detail = self._bare(operation, errand, call)
        else:
            outcome = self._boundary.query(errand.name, operation.revision, errand.arguments, call)
            words, detail = "", {}
        return Done(
            number=errand.number, outcome=outcome, trace=(), guards=int(call.tried_to_change), began=now,
            ended=time.monotonic(), error=words, detail=detail,
        )  # fmt: skip

    def _bare(self, operation: Operation, errand: Errand, call: Call) -> tuple[Outcome | None, str, dict[str, str]]:
        """What the driver itself says: its own words, neither checked nor cleaned."""
        method: Any = getattr(self._opened.driver, method_name(operation), None)
        if method is None:
            return Outcome(kind=OutcomeKind.FAILED, code="no_method"), "there is no such method", {}
        try:
            method(call, parse_request(operation, errand.arguments))
        except Revoked:
            return None, "", {}
        except OperationError as error:
            return Outcome(kind=OutcomeKind.FAILED, code=code_of(error)), error.message, error.detail
        except Exception as error:  # noqa: BLE001 (reported to the kit, which judges it)
            return Outcome(kind=OutcomeKind.UNKNOWN, code=class_name(error)), repr(error), {}
        return Outcome(kind=OutcomeKind.SUCCEEDED), "", {}

    def _held(self, errand: Errand) -> Held:
        deadline = None if errand.deadline_seconds is None else time.time() + errand.deadline_seconds
        highest = min(CURRENT, self._opened.served.highest)
        command = Command(
            operation=errand.operation, name=errand.name, revision=1, release=errand.release or str(highest),
            cluster=self._target.conformance.cluster, epoch=1, partition=0, key=str(errand.arguments.get("instance", "")),
            sequence=1, round=1, deadline=deadline, arguments=errand.arguments,
        )  # fmt: skip
        return Held(command=command, delivery_count=0, handle=None)
