"""vSphere's tasks: waited for, reported, cancelled, and found again by a later attempt.

A task goes on when its worker is gone.  Whoever takes the operation up therefore looks at what the machine, or vCenter,
still has running and waits for that before it decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pyVmomi import vim
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from federation.contract.errors import HypervisorUnreachable, OperationError, OutcomeUnknown
from federation_vmware import faults
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Connection, Reference, Session, gone, translated

_PATHS = ("info.state", "info.error", "info.progress")
"""Only these: some results cannot be read by pyVmomi (the simulator's for a revert)."""
_FIRST_LOOK, _SLOWEST_LOOK = 0.05, 1.0
_RUNNING = frozenset({"queued", "running"})
CREATING = frozenset({"Folder.createVm", "VirtualMachine.clone", "Folder.registerVm", "VirtualMachine.cloneVm"})
"""What a task that brings a machine into being calls itself (``descriptionId``)."""


def run(  # noqa: PLR0913 - what to start, and how to wait for it
    connection: Connection,
    attempt: Attempt,
    what: str,
    start: Callable[[Session], Any],
    *,
    seconds: float | None = None,
    percent: tuple[float, float] | None = None,
) -> None:
    """Start a task behind a guard and wait for its end; a machine that is busy with another task is waited for.

    Raises what its fault means; OutcomeUnknown when it does not end in time.  ``percent`` is the part of the whole
    operation that it is.
    """
    retrying = Retrying(
        retry=retry_if_exception(_busy),
        stop=stop_after_delay(connection.settings.timeouts.busy_seconds),
        wait=wait_random_exponential(multiplier=0.2, max=3.0),
        sleep=attempt.sleep,
        reraise=True,
    )

    def once() -> None:
        attempt.guard()
        task = connection.change(what, start)
        wait(connection, attempt, what, task, seconds=seconds, percent=percent)

    retrying(once)


def wait(  # noqa: PLR0913 - what to wait for, and how
    connection: Connection,
    attempt: Attempt,
    what: str,
    task: Reference,
    *,
    seconds: float | None = None,
    percent: tuple[float, float] | None = None,
) -> None:
    """Wait for a task that runs; a cancel or a deadline that passes cancels it, see ``_give_up``."""
    limit = seconds or connection.settings.timeouts.task_seconds
    ends, pause = time.monotonic() + limit, _FIRST_LOOK
    while not _ended(connection, attempt, what, task, percent):
        if time.monotonic() > ends:
            raise OutcomeUnknown(f"{what}: the task has not ended within {limit:g} s and goes on", task=_id(task))
        try:
            attempt.sleep(pause)
        except OperationError:
            _give_up(connection, attempt, what, task)
            raise
        pause = min(_SLOWEST_LOOK, pause * 1.5)


def settle_machine(connection: Connection, attempt: Attempt, machine: Reference) -> None:
    """Wait for every task of a machine that an earlier attempt may have left running."""
    answer = connection.properties("look for its tasks", vim.VirtualMachine, [machine], ["recentTask"])
    tasks = [task for _, found in answer for task in found.get("recentTask", ())]
    for task, info in _look_at(connection, tasks):
        if info.get("info.state") in _RUNNING:
            attempt.progress(None, "waiting for a task of an earlier attempt")
            try:
                wait(connection, attempt, "a task found running", task)
            except (HypervisorUnreachable, OutcomeUnknown):
                raise
            except OperationError:
                if attempt.interruption is not None:
                    raise  # its failure is not ours: what is there is looked at next


def settle_creations(connection: Connection, attempt: Attempt) -> None:
    """Wait for every task that brings a machine into being: one of them may be ours, so none is cancelled.

    A cancel or a deadline that comes meanwhile is raised once they have ended, so that what they made is undone; OutcomeUnknown
    when they do not end in time.
    """
    limit, now = connection.settings.timeouts.task_seconds, time.monotonic()
    ends, pause, interruption = now + limit, _FIRST_LOOK, None
    found = running(connection, CREATING)
    while found and (found := [task for task, info in _look_at(connection, found) if _goes_on(info)]):
        attempt.progress(None, "waiting for a task of an earlier attempt")
        if time.monotonic() > ends:
            told = "" if interruption is None else f"{interruption.message}; "
            raise OutcomeUnknown(f"{told}{len(found)} tasks that may have been begun by an earlier attempt go on")
        try:
            attempt.sleep(pause)
        except OperationError as error:
            interruption, ends = error, min(ends, time.monotonic() + connection.settings.timeouts.cancel_seconds)
        pause = min(_SLOWEST_LOOK, pause * 1.5)
    if interruption is not None:
        raise interruption


def running(connection: Connection, kinds: frozenset[str]) -> list[Reference]:
    """Tasks of these kinds that run at vCenter, whoever began them."""
    manager = connection.session().content.taskManager
    answer = connection.properties("look for tasks", vim.TaskManager, [manager], ["recentTask"])
    tasks = [task for _, found in answer for task in found.get("recentTask", ())]
    known = _look_at(connection, tasks)
    return [task for task, info in known if _goes_on(info) and info.get("info.descriptionId") in kinds]


def _goes_on(info: dict[str, Any]) -> bool:
    return info.get("info.state") in _RUNNING


def _look_at(connection: Connection, tasks: list[Reference]) -> list[tuple[Reference, dict[str, Any]]]:
    """All in one request; vCenter forgets tasks after a while, then each by itself."""
    paths = ["info.state", "info.descriptionId"]
    try:
        return connection.properties("look at tasks", vim.Task, tasks, paths)
    except OperationError as error:
        if not gone(error):
            raise
        if len(tasks) == 1:
            return []
    return [found for task in tasks for found in _look_at(connection, [task])]


def _ended(
    connection: Connection, attempt: Attempt, what: str, task: Reference, percent: tuple[float, float] | None
) -> bool:
    """Whether it has ended well; raises what its fault means."""
    [(_, info)] = connection.properties(what, vim.Task, [task], _PATHS)
    state = info.get("info.state")
    if state == "success":
        return True
    if state == "error":
        raise translated(info.get("info.error"), what)
    done = info.get("info.progress")
    if isinstance(done, int) and percent is not None:
        low, high = percent
        attempt.progress(low + (high - low) * min(max(done, 0), 100) / 100, what)
    return False


def _give_up(connection: Connection, attempt: Attempt, what: str, task: Reference) -> None:
    """Ask a task to stop and wait until it has, one way or the other; what it made is for the caller to undo."""
    attempt.progress(None, f"{what}: cancelling")
    attempt.guard()
    try:
        connection.change(f"{what}: cancel", lambda session: session.bound(task).CancelTask())
    except HypervisorUnreachable:
        raise
    except OperationError as error:
        attempt.progress(None, f"{what}: cannot be cancelled, waiting for it ({faults.fault_of(error)})")
    ends = time.monotonic() + connection.settings.timeouts.cancel_seconds
    while time.monotonic() < ends:
        [(_, info)] = connection.properties(what, vim.Task, [task], ["info.state"])
        if info.get("info.state") not in _RUNNING:
            return
        attempt.sleep(_SLOWEST_LOOK / 2)
    raise OutcomeUnknown(f"{what}: the task does not stop", task=_id(task))


def _busy(error: BaseException) -> bool:
    return isinstance(error, OperationError) and faults.fault_of(error) in faults.PASSING


def _id(task: Reference) -> str:
    return str(task._GetMoId())  # noqa: SLF001 - pyVmomi's name for an object's id
