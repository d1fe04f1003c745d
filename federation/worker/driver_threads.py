"""One thread for every driver call, so that nothing else of the worker ever waits for a hypervisor."""

from __future__ import annotations

import logging
import sys
import threading
import traceback

from federation.contract.errors import DriverBug
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.worker_actions import Held
from federation.worker.boundary import Boundary
from federation.worker.calls import RunningCall
from federation.worker.inbox import CallEnded, Inbox
from federation.worker.redaction import Redactor, class_name

_log = logging.getLogger(__name__)


class DriverThreads:
    """Starts driver calls and says where they hang.

    The worker's decision core bounds how many there are.  The threads are daemons: one that hangs in a hypervisor's
    library does not keep the process from ending.
    """

    def __init__(self, boundary: Boundary, inbox: Inbox, redactor: Redactor) -> None:
        self._boundary = boundary
        self._inbox = inbox
        self._redactor = redactor
        self._threads: dict[int, threading.Thread] = {}

    def start(self, call: int, held: Held, running: RunningCall) -> None:
        """Run the driver; its end comes into the inbox as CallEnded with the number ``call``."""
        name = f"{held.command.name} {held.command.operation}"
        thread = threading.Thread(target=self._run, args=(call, held, running), name=name, daemon=True)
        self._threads[call] = thread
        try:
            thread.start()
        except RuntimeError:
            self._threads.pop(call, None)
            raise

    def _run(self, call: int, held: Held, running: RunningCall) -> None:
        try:
            outcome = self._boundary.execute(held, running)
        except BaseException as error:  # noqa: BLE001 — a call without an end would hold its key for ever
            _log.critical("error boundary broken problem=%s\n%s", class_name(error), self._redactor.traceback(error))
            message = f"the worker failed to judge what the driver did ({class_name(error)})"
            outcome = Outcome(kind=OutcomeKind.UNKNOWN, code=DriverBug.code, message=message)
        self._threads.pop(call, None)
        self._inbox.put(CallEnded(call, outcome))

    def where(self, call: int) -> str:
        """The stack of a call's thread, innermost frame last; empty when it has ended."""
        thread = self._threads.get(call)
        frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None  # noqa: SLF001 — the documented way to another thread's stack
        return "" if frame is None else self._redactor.text("".join(traceback.format_stack(frame, limit=30)), 8000)
