"""The query lane: reads, answered at once or not at all, side by side with the ordered operations.

A query runs in a thread of its own.  One that is not answered in time is given up: the caller gets ``timed_out``, and the
thread keeps its slot until it ends, so that a hanging hypervisor takes no more than ``max_queries`` threads.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

import msgspec

from federation.contract.errors import DriverBug, TimedOut
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.worker.boundary import Boundary
from federation.worker.calls import QueryCall
from federation.worker.counters import Counters
from federation.worker.redaction import class_name
from federation.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)


class QueryService:
    """Answers queries; thread-safe."""

    def __init__(self, boundary: Boundary, counters: Counters, settings: WorkerSettings) -> None:
        self._boundary = boundary
        self._counters = counters
        self._settings = settings
        self._slots = threading.BoundedSemaphore(settings.max_queries)

    def handle(self, name: object, revision: object, arguments: object) -> dict[str, object]:
        """Answer one query with an Outcome in builtin types; takes at most ``query_timeout`` seconds.

        It never raises: a bad request, an error of the driver, a defect of it and a timeout all are outcomes.
        """
        began = time.monotonic()
        outcome = self._answer(name, revision, arguments)
        self._counters.query(name, outcome.code or OutcomeKind.SUCCEEDED.value, time.monotonic() - began)
        answer: dict[str, object] = msgspec.to_builtins(outcome)
        return answer

    def _answer(self, name: object, revision: object, arguments: object) -> Outcome:
        call = QueryCall(self._settings.cluster, self._settings.query_timeout)
        if not self._slots.acquire(timeout=call.seconds):
            return _timed_out(f"{name}: all {self._settings.max_queries} query slots of the worker were taken")
        ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

        def run() -> None:
            try:
                outcome = self._boundary.query(name, revision, arguments, call)
            except BaseException as error:  # noqa: BLE001 — whoever waits for the answer gets one
                _log.critical("error boundary broken problem=%s", class_name(error))
                message = f"the worker failed to judge what the driver did ({class_name(error)})"
                outcome = Outcome(kind=OutcomeKind.UNKNOWN, code=DriverBug.code, message=message)
            self._slots.release()
            ended.put(outcome)

        try:
            threading.Thread(target=run, name=f"query {name}", daemon=True).start()
        except RuntimeError:
            self._slots.release()
            return _timed_out(f"{name}: the worker cannot start another thread")
        try:
            return ended.get(timeout=call.remaining())
        except queue.Empty:
            call.give_up()
            self._counters.count("queries_hung")
            _log.warning("query given up name=%s after_seconds=%g stage=%r", name, call.seconds, call.step.stage)
            return _timed_out(f"{name} was given up after {call.seconds:g} s")


def _timed_out(message: str) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, code=TimedOut.code, message=message)
