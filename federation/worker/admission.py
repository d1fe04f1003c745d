"""Membership: join the cluster, say that one lives, follow its epochs, leave.

Rules (DESIGN §5.4):

1. Nothing is consumed before the manager has admitted the worker; a refusal ends the worker with its reason.
2. A manager or broker that cannot be reached is asked again, for as long as the worker runs, with jitter, and visibly.
3. Not known any more: announce again.  Another epoch: finish what runs, close the channel, announce again, consume anew.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from federation.contract.errors import OperationError
from federation.contract.nodes import Description
from federation.protocol.admission import Admission, Announcement, Departure, Heartbeat
from federation.worker.errors import ExitCode, Unavailable
from federation.worker.inbox import (
    Admitted,
    ConsumerLost,
    Delivered,
    DrainBegan,
    Handle,
    Inbox,
    LoadAsked,
    RevocationAsked,
)
from federation.worker.ports import Commands, HeldCommand
from federation.worker.redaction import class_name
from federation.worker.surroundings import Surroundings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LONGEST_PAUSE = 10.0
_LOAD_TIMEOUT = 5.0


class _Leaving(Exception):
    """The worker is asked to leave while this thread waits for somebody."""


@dataclass(slots=True)
class _Source:
    """One channel's consumer, and the callbacks that bring what it delivers into the inbox."""

    inbox: Inbox
    commands: Commands[HeldCommand] | None = None

    def on_command(self, held: HeldCommand) -> None:
        if self.commands is not None:
            self.inbox.put(Delivered(Handle(self.commands, held)))

    def on_lost(self, reason: str, partition: int | None) -> None:
        self.inbox.put(ConsumerLost(reason, partition))


class Membership:
    """A thread of its own; it asks the worker to end when it cannot stay."""

    def __init__(self, around: Surroundings, description: Description) -> None:
        settings = around.settings
        self._settings = settings
        self._announcement = Announcement(
            worker=settings.worker,
            cluster=settings.cluster,
            description=description,
            host=settings.host,
            pid=settings.pid,
            max_operations=settings.max_operations,
        )
        self._ports = around.ports
        self._inbox = around.inbox
        self._counters = around.counters
        self._end = around.end
        self._leaving = threading.Event()
        self._beat_now = threading.Event()
        self._draining = False
        self._commands: Commands[HeldCommand] | None = None
        self.admission: Admission | None = None
        self._thread = threading.Thread(target=self._run, name=f"membership {settings.worker}", daemon=True)

    @property
    def consuming(self) -> bool:
        """Whether the partitions are consumed."""
        return self._commands is not None

    def start(self) -> None:
        """Announce in the background."""
        self._thread.start()

    def draining(self) -> None:
        """Tell the manager, with a heartbeat of now, that the worker starts nothing new."""
        self._draining = True
        self._beat_now.set()

    def leave(self, reason: str, timeout: float) -> None:
        """Stop, close the channel (what is held goes back in order), and tell the manager."""
        self._leaving.set()
        self._beat_now.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._close_commands(timeout)
        if self.admission is None:
            return
        try:
            self._ports.manager.leave(
                Departure(worker=self._settings.worker, cluster=self._settings.cluster, reason=reason)
            )
        except (Unavailable, OperationError) as error:
            _log.warning("manager not told that the worker leaves problem=%s", error)

    # The thread

    def _run(self) -> None:
        try:
            admission = self._join()
            while True:
                self._pause(admission.heartbeat_seconds)
                admission = self._beat(admission)
        except _Leaving:
            _log.debug("membership ends worker=%s", self._settings.worker)
        except OperationError as error:
            _log.error("worker refused code=%s reason=%r next_move=%r", error.code, error.message, error.next_move)
            self._end(ExitCode.REFUSED, f"{error.code}: {error.message}")
        except Exception as error:  # noqa: BLE001 — whatever broke, a worker without membership must not linger
            _log.exception("membership broken problem=%s", class_name(error))
            self._end(ExitCode.FAILED, f"membership broke ({class_name(error)}: {error})")

    def _join(self) -> Admission:
        admission = self._admit()
        self._inbox.put(Admitted(admission))
        self._consume(admission)
        return admission

    def _admit(self) -> Admission:
        admission = self._insist("admission", lambda: self._ports.manager.admit(self._announcement))
        self.admission = admission
        _log.info(
            "worker admitted worker=%s cluster=%s epoch=%d partitions=%d pin=%s lease_seconds=%g",
            admission.worker, admission.cluster, admission.epoch, admission.partitions, admission.pin,
            admission.lease_seconds,
        )  # fmt: skip
        return admission

    def _consume(self, admission: Admission) -> None:
        def open_and_start() -> None:
            source = _Source(self._inbox)
            commands = self._ports.open_commands(admission, source.on_command, source.on_lost)
            source.commands = commands
            try:
                commands.start()
            except Exception:
                commands.close(self._settings.close_timeout)
                raise
            self._commands = commands

        self._insist("consuming", open_and_start)

    def _beat(self, admission: Admission) -> Admission:
        load = self._load()
        heartbeat = Heartbeat(
            worker=self._settings.worker,
            cluster=self._settings.cluster,
            epoch=admission.epoch,
            draining=self._draining,
            load=load,
        )
        try:
            answer = self._ports.manager.heartbeat(heartbeat)
        except Unavailable as error:
            self._counters.count("heartbeats_failed")
            _log.warning("heartbeat failed worker=%s problem=%s", self._settings.worker, error)
            return admission
        if answer.drain and not self._draining:
            self._end(ExitCode.STOPPED, "an operator asked it to drain and leave")
        if self._draining or answer.drain or (answer.known and answer.epoch == admission.epoch):
            return admission
        self._counters.count("readmissions")
        if answer.known:
            return self._change_epoch(admission, answer.epoch)
        _log.warning("worker not known to the manager worker=%s", self._settings.worker)
        again = self._admit()
        if (again.epoch, again.partitions, again.prefetch) != (
            admission.epoch,
            admission.partitions,
            admission.prefetch,
        ):
            return self._change_epoch(admission, again.epoch)
        self._inbox.put(Admitted(again))
        return again

    def _change_epoch(self, admission: Admission, epoch: int) -> Admission:
        _log.info("epoch changed cluster=%s from=%d to=%d", self._settings.cluster, admission.epoch, epoch)
        idle = threading.Event()
        self._inbox.put(DrainBegan(idle.set, final=False))
        if not idle.wait(self._settings.drain_timeout):
            _log.error("epoch changes while operations run timeout_seconds=%g", self._settings.drain_timeout)
            self._inbox.put(RevocationAsked(_log_revoked))
        if self._leaving.is_set() or self._draining:
            raise _Leaving
        self._close_commands(self._settings.close_timeout)
        self._inbox.put(ConsumerLost("the epoch changed", None))
        return self._join()

    # How

    def _load(self) -> dict[str, float]:
        told: queue.SimpleQueue[dict[str, float]] = queue.SimpleQueue()
        self._inbox.put(LoadAsked(told.put))
        try:
            return told.get(timeout=_LOAD_TIMEOUT)
        except queue.Empty:
            _log.error("decision loop does not answer timeout_seconds=%g", _LOAD_TIMEOUT)
            return {}

    def _pause(self, seconds: float) -> None:
        self._beat_now.wait(seconds * random.uniform(0.9, 1.1))  # noqa: S311 — jitter
        self._beat_now.clear()
        if self._leaving.is_set():
            raise _Leaving

    def _insist(self, what: str, act: Callable[[], _T]) -> _T:
        """Try until it works or the worker leaves; each try is bounded by its port."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE),
            sleep=tenacity.sleep_using_event(self._leaving),
            stop=tenacity.stop_when_event_set(self._leaving),
            before_sleep=lambda state: _log.warning(
                "%s fails worker=%s tries=%d problem=%s", what, self._settings.worker, state.attempt_number,
                state.outcome.exception() if state.outcome else None,
            ),
        )  # fmt: skip
        if self._leaving.is_set():
            raise _Leaving
        try:
            return retrying(act)
        except tenacity.RetryError as error:
            raise _Leaving from error

    def _close_commands(self, timeout: float) -> None:
        commands, self._commands = self._commands, None
        if commands is None:
            return
        try:
            commands.close(timeout)
        except Unavailable as error:
            _log.warning("channel not closed in order problem=%s", error)


def _log_revoked(names: list[str]) -> None:
    for name in names:
        _log.error("operation revoked while it ran operation=%r", name)
