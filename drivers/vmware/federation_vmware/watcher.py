"""The inventory: every machine below the datacenter, kept up to date by one property collector of one thread.

The thread owns the collector and what it knows; nobody else touches either.  It asks ``WaitForUpdatesEx`` what has
changed, every ``watch_seconds`` and whenever somebody wants to read, and then reads the leaves of the machines that
changed in one more request: so many requests for a change, however many machines there are.  Readers hand in a
``Future`` and get the inventory as it was after they had asked; whoever asks meanwhile gets the same answer.  Listeners are
told what has happened to machines, in this thread.  The questions also keep the session alive, which vCenter ends after
half an hour without one.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from pyVmomi import vim, vmodl

from federation.contract.errors import HypervisorUnreachable, OperationError
from federation_vmware import facts, lifecycle_events
from federation_vmware.connection import Connection, Reference, Session, filter_spec, gone, through_view
from federation_vmware.facts import Look
from federation_vmware.lifecycle_events import Listener

logger = logging.getLogger(__name__)

Inventory = Mapping[str, Look]
"""Machines by vCenter's id."""

WATCHED = (
    "name",
    "config.instanceUuid",
    "config.template",
    "config.extraConfig",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.host",
    "layout.disk",
)
"""The light leaves, and only what lists, nodes, names and volumes need: a machine's devices are by far the most of it, and are
read for those that are asked for only."""
_Collector = vmodl.query.PropertyCollector
_STOP: Future[Inventory] = Future()


class Watcher:
    """The thread, and how it is asked."""

    def __init__(
        self, connection: Connection, datacenter: Callable[[], Reference], listeners: Sequence[Listener] = ()
    ) -> None:
        self._connection = connection
        self._datacenter = datacenter
        self._listeners = tuple(listeners)
        self._asked: queue.SimpleQueue[Future[Inventory]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="vsphere-inventory", daemon=True)
        self._thread.start()

    def inventory(self) -> Inventory:
        """Every machine as it is now; raises what asking vCenter raised."""
        wanted: Future[Inventory] = Future()
        self._asked.put(wanted)
        timeouts = self._connection.settings.timeouts
        try:
            return wanted.result(timeouts.request_seconds * timeouts.read_tries)
        except FutureTimeoutError as error:
            raise HypervisorUnreachable("read the inventory: vCenter does not answer in time") from error

    def close(self) -> None:
        """End the thread; what it asks now is not waited for longer than a request may take."""
        self._asked.put(_STOP)
        self._thread.join(self._connection.settings.timeouts.request_seconds)

    def _run(self) -> None:
        known = _Known(self._connection, self._datacenter)
        last: Inventory | None = None
        while True:
            waiting = self._wanted()
            if _STOP in waiting:
                return
            try:
                inventory = known.refresh()
            except OperationError as error:
                known.forget()
                logger.log(logging.INFO if waiting else logging.DEBUG, "the inventory cannot be read: %s", error)
                for one in waiting:
                    one.set_exception(error)
            except Exception as error:
                known.forget()
                logger.exception("the inventory's watcher failed")
                for one in waiting:
                    one.set_exception(error)
            else:
                for one in waiting:
                    one.set_result(inventory)
                if last is not None:
                    self._tell(last, inventory)
                last = inventory

    def _tell(self, before: Inventory, after: Inventory) -> None:
        for event in lifecycle_events.between(before, after):
            for listen in self._listeners:
                try:
                    listen(event)
                except Exception:
                    logger.exception("a listener could not take %s", type(event).__name__)

    def _wanted(self) -> list[Future[Inventory]]:
        """Who waits for an answer: at least one, or nobody after ``watch_seconds``."""
        try:
            waiting = [self._asked.get(timeout=self._connection.settings.timeouts.watch_seconds)]
        except queue.Empty:
            return []
        while not self._asked.empty():
            waiting.append(self._asked.get())
        return waiting


class _Known:
    """What the thread knows, and the collector by which it learns more."""

    def __init__(self, connection: Connection, datacenter: Callable[[], Reference]) -> None:
        self._connection = connection
        self._datacenter = datacenter
        self._session: Session | None = None
        self._held: tuple[Session, Reference, Reference] | None = None
        self._collector: Reference = None
        self._version = ""
        self._looks: dict[str, Look] = {}

    def forget(self) -> None:
        """Begin anew at the next refresh."""
        self._session = None

    def refresh(self) -> Inventory:
        """Learn what has changed; a session that has ended means to begin anew."""
        return self._connection.read("read the inventory", self._learn)

    def _learn(self, session: Session) -> Inventory:
        if session is not self._session:
            self._begin(session)
        options = _Collector.WaitOptions(maxWaitSeconds=0)
        changed = self._touched()
        while True:
            update = self._collector.WaitForUpdatesEx(self._version, options)
            if update is None:
                break
            self._version = update.version
            self._note(update, changed)
            if not update.truncated:
                break
        self._read(list(changed.values()))
        return dict(self._looks)

    def _touched(self) -> dict[str, Reference]:
        """What this process has changed since, of the machines that are known."""
        touched, found = self._connection.touched, {}
        while touched:
            one = touched.popleft()
            if facts.object_id(one) in self._looks:
                found[facts.object_id(one)] = one
        return found

    def _begin(self, session: Session) -> None:
        self._let_go(session)
        content = session.content
        view = content.viewManager.CreateContainerView(
            session.bound(self._datacenter()), [vim.VirtualMachine], recursive=True
        )
        collector = content.propertyCollector.CreatePropertyCollector()
        self._held = (session, collector, view)
        collector.CreateFilter(filter_spec(vim.VirtualMachine, WATCHED, [through_view(view)]), False)  # noqa: FBT003
        self._looks, self._version, self._collector, self._session = {}, "", collector, session

    def _let_go(self, session: Session) -> None:
        """Of what was made in this session before; with an older session, vCenter has let go of it by itself."""
        held, self._held = self._held, None
        if held is None or held[0] is not session:
            return
        for end in (held[1].DestroyPropertyCollector, held[2].DestroyView):
            try:
                end()
            except vmodl.MethodFault as fault:
                logger.debug("vCenter has let go of the inventory's watch already: %s", type(fault).__name__)

    def _note(self, update: Any, changed: dict[str, Reference]) -> None:
        """Take what came complete; what came in parts is to be read again."""
        for group in update.filterSet:
            for one in group.objectSet:
                key = facts.object_id(one.obj)
                if one.kind == "leave":
                    self._looks.pop(key, None)
                    changed.pop(key, None)
                elif one.kind == "enter" and key not in self._looks:
                    self._looks[key] = Look(one.obj, {part.name: part.val for part in one.changeSet})
                    if "config.extraConfig" not in self._looks[key].found:
                        changed[key] = one.obj
                else:
                    changed[key] = one.obj

    def _read(self, references: list[Reference]) -> None:
        try:
            found = self._connection.properties("read machines", vim.VirtualMachine, references, WATCHED)
        except OperationError as error:
            if not gone(error):
                raise
            for one in references:  # one of them went meanwhile; the next round says which
                self._read_alone(one)
            return
        for reference, values in found:
            self._looks[facts.object_id(reference)] = Look(reference, values)

    def _read_alone(self, reference: Reference) -> None:
        try:
            found = self._connection.properties("read a machine", vim.VirtualMachine, [reference], WATCHED)
        except OperationError as error:
            if not gone(error):
                raise
            self._looks.pop(facts.object_id(reference), None)
        else:
            self._looks[facts.object_id(reference)] = Look(reference, found[0][1])
