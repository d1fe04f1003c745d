"""A worker: one driver, one cluster, one loop: receive, decide, call the driver, report."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from federation.contract.struct_types import prepare_types
from federation.protocol.admission import Admission
from federation.protocol.envelope import Answer
from federation.protocol.worker_core import WorkerCore, WorkerTerms
from federation.worker.admission import Membership
from federation.worker.boundary import Boundary
from federation.worker.counters import Counters
from federation.worker.driver_threads import DriverThreads
from federation.worker.drivers import OpenDriver
from federation.worker.errors import ExitCode, Unavailable
from federation.worker.inbox import Answered, DrainBegan, Inbox, LoadAsked, RevocationAsked, Stopped
from federation.worker.lease_clock import lease_clock
from federation.worker.loop import DecisionLoop
from federation.worker.open_questions import question_ids
from federation.worker.ports import Closable, Ports
from federation.worker.queries import QueryService
from federation.worker.redaction import class_name
from federation.worker.settings import WorkerSettings
from federation.worker.surroundings import Surroundings

_log = logging.getLogger(__name__)
_REVOCATION_TIMEOUT = 1.0
_LOAD_TIMEOUT = 2.0
_LATELY = 60.0


@dataclass(frozen=True, slots=True)
class _DrainAsked:
    timeout: float


@dataclass(frozen=True, slots=True)
class _StopAsked:
    reason: str


@dataclass(frozen=True, slots=True)
class _Idle:
    """Nothing runs any more."""


@dataclass(frozen=True, slots=True)
class _MustEnd:
    code: ExitCode
    reason: str


_Notice = _DrainAsked | _StopAsked | _Idle | _MustEnd


class Worker:
    """Runs one driver for one cluster.

    ``start`` returns at once; ``run_until_stopped`` waits, in the caller's thread, for the worker to end and ends it;
    ``drain`` and ``stop`` only ask for that and may be called from anywhere, signal handlers included.  ``queries``
    answers the query lane; ``counters`` holds figures for metrics.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        driver: OpenDriver,
        ports: Ports,
        *,
        new_id: Callable[[], str] | None = None,
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        prepare_types()
        self.settings = settings
        self.counters = Counters()
        self.description = driver.description
        self._driver = driver.driver
        self._redactor = driver.redactor
        self._ports = ports
        self._inbox = Inbox()
        self._notices: queue.SimpleQueue[_Notice] = queue.SimpleQueue()
        around = Surroundings(
            settings=settings,
            ports=ports,
            inbox=self._inbox,
            counters=self.counters,
            clock=clock,
            end=lambda code, reason: self._notices.put(_MustEnd(code, reason)),
        )
        boundary = Boundary(driver.driver, driver.served, driver.redactor, self.counters, settings.max_outcome_bytes)
        self.queries = QueryService(boundary, self.counters, settings)
        terms = WorkerTerms(max_operations=settings.max_operations)
        core = WorkerCore(settings.worker, terms, new_id or question_ids())
        self._threads = DriverThreads(boundary, self._inbox, driver.redactor, ports.tracing)
        self._loop = DecisionLoop(core, around, self._threads)
        self._membership = Membership(around, driver.description)
        self._loop_thread = threading.Thread(target=self._loop.run, name=f"decisions {settings.worker}", daemon=True)
        self._answers: Closable | None = None

    @property
    def admission(self) -> Admission | None:
        """The manager's last admission; None before the first."""
        return self._membership.admission

    @property
    def consuming(self) -> bool:
        """Whether the worker is admitted and its channel consumes the partitions: it is ready."""
        return self._membership.consuming

    def load(self) -> dict[str, float]:
        """The figures of now, partitions of the last minute; empty when the thread that decides does not answer in time."""
        if not self._loop_thread.is_alive():
            return {}
        told: queue.SimpleQueue[dict[str, float]] = queue.SimpleQueue()
        self._inbox.put(LoadAsked(told.put, _LATELY))
        try:
            return told.get(timeout=_LOAD_TIMEOUT)
        except queue.Empty:
            return {}

    def start(self) -> None:
        """Receive answers, decide, and join the cluster in the background; raises Unavailable without a bus."""
        _log.info("worker starts worker=%s cluster=%s", self.settings.worker, self.settings.cluster)
        self._answers = self._ports.open_answers(self._on_answer)
        self._loop_thread.start()
        self._membership.start()

    def drain(self, timeout: float | None = None) -> None:
        """Ask to finish what runs within ``timeout`` seconds (default ``drain_timeout``) and leave; asked twice: now."""
        self._notices.put(_DrainAsked(self.settings.drain_timeout if timeout is None else timeout))

    def stop(self, reason: str = "it was stopped") -> None:
        """Ask to revoke what runs and leave at once; what is held goes back to the broker."""
        self._notices.put(_StopAsked(reason))

    def run_until_stopped(self) -> ExitCode:
        """Wait for the end, bring it about, and say how it was."""
        notice = self._notices.get()
        while isinstance(notice, _Idle):
            notice = self._notices.get()
        match notice:
            case _DrainAsked(timeout):
                code, reason = self._drain(timeout, ExitCode.STOPPED, "it was drained")
            case _MustEnd(ExitCode.STOPPED | ExitCode.REFUSED as wanted, told):
                code, reason = self._drain(self.settings.drain_timeout, wanted, told)
            case _MustEnd(code, reason):
                self._revoke_running()
            case _StopAsked(reason):
                code = ExitCode.STOPPED
                self._revoke_running()
        self._close(reason)
        _log.info("worker ended worker=%s code=%s reason=%r", self.settings.worker, code.name, reason)
        return code

    def _on_answer(self, answer: Answer) -> None:
        if not self._inbox.offer(Answered(answer)):
            self.counters.count("answers_dropped")

    # How it ends

    def _drain(self, timeout: float, code: ExitCode, reason: str) -> tuple[ExitCode, str]:
        _log.info("worker drains worker=%s timeout_seconds=%g", self.settings.worker, timeout)
        ends = time.monotonic() + timeout
        self._inbox.put(DrainBegan(lambda: self._notices.put(_Idle()), final=True))
        self._membership.draining()
        while True:
            try:
                notice = self._notices.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                if self._revoke_running():
                    return ExitCode.DRAIN_INCOMPLETE, f"operations still ran {timeout:g} s after it was asked to leave"
                return code, reason
            match notice:
                case _Idle():
                    return code, reason
                case _MustEnd(ExitCode.FAILED | ExitCode.STUCK as worse, told):
                    self._revoke_running()
                    return worse, told
                case _DrainAsked() | _StopAsked():
                    left = self._revoke_running()
                    return (ExitCode.DRAIN_INCOMPLETE if left else code), "it was told twice to leave"

    def _revoke_running(self) -> list[str]:
        """Revoke every call, log which, and return their names."""
        told: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._inbox.put(RevocationAsked(told.put))
        try:
            names = told.get(timeout=_REVOCATION_TIMEOUT if self._loop_thread.is_alive() else 0)
        except queue.Empty:
            names = []
        for name in names:
            _log.error("operation revoked while it ran worker=%s operation=%r", self.settings.worker, name)
        return names

    def _close(self, reason: str) -> None:
        timeout = self.settings.close_timeout
        self._membership.leave(reason, timeout)
        if self._answers is not None:
            try:
                self._answers.close(timeout)
            except Unavailable as error:
                _log.warning("answers not closed in order problem=%s", error)
        self._inbox.put(Stopped())
        if self._loop_thread.is_alive():
            self._loop_thread.join(timeout)
        self._threads.close()
        self._close_driver(timeout)

    def _close_driver(self, timeout: float) -> None:
        """A driver may hang in its close: the process does not wait for that longer than ``timeout``."""
        thread = threading.Thread(target=self._driver_close, name="driver close", daemon=True)
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            _log.warning("driver does not close timeout_seconds=%g", timeout)

    def _driver_close(self) -> None:
        try:
            self._driver.close()
        except Exception as error:  # noqa: BLE001 — a driver's last words cannot keep the worker from ending
            _log.error("driver does not close problem=%s\n%s", class_name(error), self._redactor.traceback(error))
