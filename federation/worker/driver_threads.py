"""Threads for driver calls, so that nothing else of the worker ever waits for a hypervisor."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import traceback

from federation.contract.errors import DriverBug
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.worker_actions import Held
from federation.worker.boundary import Boundary
from federation.worker.calls import RunningCall
from federation.worker.inbox import CallEnded, Inbox
from federation.worker.ports import Tracing
from federation.worker.redaction import Redactor, class_name

_log = logging.getLogger(__name__)
_Work = tuple[int, Held, RunningCall]


class DriverThreads:
    """Runs every driver call in a thread that runs nothing else meanwhile, and says where calls hang.

    A thread that has finished takes the next call; one that hangs is never waited for, a new one is made instead.  The
    decision core bounds how many calls there are, hanging ones included, and so how many threads.  They are daemons: one
    that hangs in a hypervisor's library does not keep the process from ending.
    """

    def __init__(self, boundary: Boundary, inbox: Inbox, redactor: Redactor, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._boundary = boundary
        self._inbox = inbox
        self._redactor = redactor
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._running: dict[int, threading.Thread] = {}

    def start(self, call: int, held: Held, running: RunningCall) -> None:
        """Run the driver; its end comes into the inbox as CallEnded with the number ``call``.

        Raises RuntimeError when a thread is needed and the system gives none.
        """
        work = (call, held, running)
        if self._idle.acquire(blocking=False):
            self._waiting.put(work)
        else:
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def where(self, call: int) -> str:
        """The stack of a call's thread, innermost frame last; empty when it has ended."""
        thread = self._running.get(call)
        frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None  # noqa: SLF001 — the documented way to another thread's stack
        return "" if frame is None else self._redactor.text("".join(traceback.format_stack(frame, limit=30)), 8000)

    def close(self) -> None:
        """Let the idle threads end; one that is in a call ends after it."""
        while self._idle.acquire(blocking=False):
            self._waiting.put(None)

    def _serve(self, first: _Work) -> None:
        thread, work = threading.current_thread(), first
        while True:
            call, held, running = work
            thread.name = f"{held.command.name} {held.command.operation}"
            self._running[call] = thread
            outcome = self._run(held, running)
            del self._running[call], held, running
            thread.name = "driver thread, idle"
            self._idle.release()
            self._inbox.put(CallEnded(call, outcome))
            following = self._waiting.get()
            if following is None:
                return
            work = following

    def _execute(self, held: Held, running: RunningCall) -> Outcome | None:
        if self._tracing is None:
            return self._boundary.execute(held, running)
        with self._tracing.calling(held.command, running.attempt) as traced:
            running.traced = traced
            outcome = self._boundary.execute(held, running)
            self._tracing.ended(outcome)
        return outcome

    def _run(self, held: Held, running: RunningCall) -> Outcome | None:
        try:
            return self._execute(held, running)
        except BaseException as error:  # noqa: BLE001 — a call without an end would hold its key for ever
            _log.critical("error boundary broken problem=%s\n%s", class_name(error), self._redactor.traceback(error))
            message = f"the worker failed to judge what the driver did ({class_name(error)})"
            return Outcome(kind=OutcomeKind.UNKNOWN, code=DriverBug.code, message=message)
