"""Power operations of the simulated driver."""

from __future__ import annotations

from collections.abc import Callable

from federation.contract import requests as r
from federation.contract.errors import TimedOut
from federation.contract.instances import Instance, PowerState
from federation.testing.hypervisor.markers import before_of, counted_after, forget, marked_before
from federation.testing.hypervisor.records import Machine, facts
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.steps import require, require_state, step, undoing

_S = PowerState


def power_on(session: Session, _request: r.PowerOn) -> Instance:
    """One call: start, or restore what was suspended."""
    with undoing(session):
        machine = require(session)
        require_state(machine, "power_on", _S.STOPPED, _S.CRASHED, _S.SUSPENDED, _S.RUNNING)
        kind = "restore" if machine.power_state is _S.SUSPENDED else "start"
        step(session, kind, _is(_S.RUNNING))
        return facts(require(session))


def power_off(session: Session, request: r.PowerOff) -> Instance:
    """One call; the memory of a suspended instance is discarded by a hard one."""
    with undoing(session):
        machine = require(session)
        if request.mode is r.PowerOffMode.GRACEFUL:
            require_state(machine, "power_off graceful", _S.RUNNING, _S.STOPPED)
            if machine.power_state is _S.RUNNING:
                _ask_guest(session, machine, "shut_down_guest", _is(_S.STOPPED), request.timeout_seconds)
        else:
            kind = "discard_memory" if machine.power_state is _S.SUSPENDED else "stop"
            step(session, kind, _is(_S.STOPPED))
        return facts(require(session))


def reboot(session: Session, request: r.Reboot) -> Instance:
    """Two calls: a marker that counts the boots so far, then the reset; a repeat compares the two."""
    with undoing(session, forget("reboot", _boots)):
        machine = require(session)
        if before_of(machine, "reboot", session.call.operation) is None:
            require_state(machine, "reboot", _S.RUNNING)
        rebooted = counted_after(_boots, marked_before(session, machine, "reboot", _boots))
        if request.mode is r.RebootMode.SOFT:
            _ask_guest(session, machine, "restart_guest", rebooted, request.timeout_seconds)
        else:
            step(session, "reset", rebooted)
        return facts(require(session))


def pause(session: Session, _request: r.Pause) -> Instance:
    """One call."""
    return _reach(session, "pause", _S.PAUSED, _S.RUNNING)


def unpause(session: Session, _request: r.Unpause) -> Instance:
    """One call."""
    return _reach(session, "unpause", _S.RUNNING, _S.PAUSED)


def resume(session: Session, _request: r.Resume) -> Instance:
    """One call."""
    return _reach(session, "restore", _S.RUNNING, _S.SUSPENDED)


def suspend(session: Session, _request: r.Suspend) -> Instance:
    """Two calls: the memory is written to a file that names the operation, then the machine goes."""
    operation = session.call.operation
    with undoing(session, _drop_memory_file):
        machine = require(session)
        require_state(machine, "suspend", _S.RUNNING, _S.PAUSED, _S.SUSPENDED)
        if machine.power_state is not _S.SUSPENDED:
            session.call.progress(10.0, "saving memory")
            step(session, "write_memory", _memory_of(operation), made_by=operation)
            session.call.progress(90.0, "stopping")
            step(session, "suspend", _is(_S.SUSPENDED))
        return facts(require(session))


def _reach(session: Session, kind: str, end: PowerState, start: PowerState) -> Instance:
    with undoing(session):
        machine = require(session)
        require_state(machine, session.name, start, end)
        step(session, kind, _is(end))
        return facts(require(session))


def _ask_guest(
    session: Session, machine: Machine, kind: str, done: Callable[[Machine | None], bool], timeout: float
) -> None:
    if done(session.read()):
        return
    takes = session.hypervisor.delay(kind, session.call.operation)
    if takes <= timeout and not machine.ignores_power_button:
        step(session, kind, done, seconds=takes)
        return
    session.change("press_power_button")
    session.call.sleep(timeout)
    if not done(session.read()):
        message = f"{session.name}: the guest of {machine.id} did not react within {timeout} s"
        raise TimedOut(message, instance=machine.id, timeout_seconds=timeout)


def _drop_memory_file(session: Session) -> None:
    machine = session.read()
    if machine and machine.memory_file == session.call.operation and machine.power_state is not _S.SUSPENDED:
        session.change("delete_memory")


def _boots(machine: Machine) -> int:
    return machine.boots


def _is(state: PowerState) -> Callable[[Machine | None], bool]:
    return lambda machine: machine is not None and machine.power_state is state


def _memory_of(operation: str) -> Callable[[Machine | None], bool]:
    return lambda machine: machine is not None and machine.memory_file == operation
