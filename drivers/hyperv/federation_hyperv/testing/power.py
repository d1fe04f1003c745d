"""The states of a machine: RequestStateChange, and the guest's shutdown component."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

from federation_hyperv.cim import Instance
from federation_hyperv.cim.codes import JobState, ReturnCode
from federation_hyperv.testing import resources, words
from federation_hyperv.testing.files import BadPath
from federation_hyperv.testing.host import Refused, SimulatedHost
from federation_hyperv.testing.jobs import JobError

Arguments = dict[str, Any]
_BETWEEN = {words.State.RUNNING: words.State.STARTING, words.State.OFF: words.State.STOPPING}


def request_state(host: SimulatedHost, machine: Instance, arguments: Arguments) -> Arguments:
    """RequestStateChange of Msvm_ComputerSystem: a job, or 32775 when the state does not allow it."""
    if machine["Description"] != words.MACHINE_DESCRIPTION:
        raise Refused(ReturnCode.V2_NOT_SUPPORTED)
    requested, goal = _goal_of(host, machine, arguments.get("RequestedState"))
    identifier = str(machine["Name"])
    state = int(machine["EnabledState"])
    machine["RequestedState"] = int(requested)
    if state in {words.State.OFF, words.State.RUNNING} and goal != state and goal in _BETWEEN:
        machine["EnabledState"] = int(_BETWEEN[goal])

    def finish() -> None:
        try:
            if goal is words.State.RUNNING and state in {words.State.OFF, words.State.SAVED}:
                _check_start(host, machine)
        except JobError:
            machine["EnabledState"] = state
            raise
        reach(
            host,
            machine,
            goal,
            cold=state == words.State.OFF or requested in {words.Request.RESET, words.Request.REBOOT},
        )
        kind = words.Request(requested).name.lower()
        host.record(identifier, kind, before=words.State(state).name.lower())

    def restore() -> None:
        machine["EnabledState"] = state

    job = host.start_job(
        "Msvm_ConcreteJob", "Request State Change", machine, finish, machine=identifier, partial=restore
    )  # fmt: skip
    if host.jobs[str(job["InstanceID"])].fails_with is not None:
        host.jobs[str(job["InstanceID"])].partial = restore
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}


def _goal_of(host: SimulatedHost, machine: Instance, requested: Any) -> tuple[words.Request, words.State]:
    identifier = str(machine["Name"])
    if requested not in {int(item) for item in words.Request}:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    request = words.Request(requested)
    goal = words.TRANSITIONS.get((int(machine["EnabledState"]), request))
    if goal is None or identifier in host.busy:
        raise Refused(ReturnCode.V2_INVALID_STATE)
    if request in {words.Request.SHUT_DOWN, words.Request.REBOOT} and not host.guests[identifier].obeys:
        raise Refused(ReturnCode.V2_TIMEOUT)
    return request, goal


def reach(host: SimulatedHost, machine: Instance, goal: words.State, *, cold: bool) -> None:
    """Bring a machine into a state; ``cold``: its guest starts from nothing when it comes to run."""
    identifier = str(machine["Name"])
    guest = host.guests[identifier]
    machine["EnabledState"] = int(goal)
    machine["TimeOfLastStateChange"] = dt.datetime.now(dt.UTC)
    machine["ProcessID"] = 1000 + len(host.guests) if host.is_running(machine) else 0
    if goal is words.State.RUNNING and (cold or guest.running_since is None):
        guest.running_since = time.monotonic()
        guest.boots += int(cold)
    elif goal in {words.State.OFF, words.State.SAVED}:
        guest.running_since = None
    _components(host, machine)


def _check_start(host: SimulatedHost, machine: Instance) -> None:
    """What keeps a machine from starting: no memory, a disk that is not there or that another machine has open."""
    if (
        host.memory_in_use() + (host.memory_of(machine) if not host.is_running(machine) else 0)
        > host.facts.memory_bytes
    ):
        raise JobError(14, f"'{machine['ElementName']}' could not initialize memory: not enough memory in the system.")
    for disk in host.resources(host.settings_of(machine), "Msvm_StorageAllocationSettingData"):
        for path in disk["HostResource"] or []:
            try:
                resources.check_file(host, path)
            except (Refused, BadPath) as error:
                raise JobError(2, f"The system cannot find the file specified: '{path}'.") from error
            _check_open(host, machine, path)


def _check_open(host: SimulatedHost, machine: Instance, path: str) -> None:
    if path.lower().endswith(".iso"):
        return
    for other in host.machines():
        if other["Name"] == machine["Name"] or not host.is_running(other):
            continue
        for disk in host.resources(host.settings_of(other), "Msvm_StorageAllocationSettingData"):
            if path.lower() in {item.lower() for item in disk["HostResource"] or []}:
                raise JobError(32, f"The process cannot access '{path}' because it is being used by another process.")


def _components(host: SimulatedHost, machine: Instance) -> None:
    """Integration components and the keyboard are there only while the guest runs."""
    identifier = str(machine["Name"])
    running = machine["EnabledState"] == words.State.RUNNING
    for class_name in ("Msvm_ShutdownComponent", "Msvm_HeartbeatComponent", "Msvm_Keyboard"):
        found = [
            item for item in host.repository.associated(machine, "Msvm_SystemDevice") if item.class_name == class_name
        ]  # fmt: skip
        if running and not found:
            component = host.repository.add(Instance(class_name, {
                "DeviceID": f"Microsoft:{identifier}\\{class_name}", "CreationClassName": class_name,
                "SystemName": identifier, "SystemCreationClassName": "Msvm_ComputerSystem", "EnabledState": 2,
                "ElementName": class_name.removeprefix("Msvm_"), "OperationalStatus": [2],
            }))  # fmt: skip
            host.repository.tie("Msvm_SystemDevice", GroupComponent=machine, PartComponent=component)
        elif not running:
            for item in found:
                host.repository.remove(item.reference)


def strike(kind: str) -> Callable[[SimulatedHost, Instance, Arguments], Arguments]:
    """A method of Msvm_Keyboard: what was typed is an effect, and nothing else."""

    def struck(host: SimulatedHost, keyboard: Instance, arguments: Arguments) -> Arguments:
        host.record(str(keyboard["SystemName"]), kind, **arguments)
        return {"ReturnValue": ReturnCode.COMPLETED}

    return struck


def initiate_shutdown(host: SimulatedHost, component: Instance, _arguments: Arguments) -> Arguments:
    """InitiateShutdown: returns at once, the guest needs its time, and one that does not obey never ends."""
    return _guest_ends(host, component, "guest_shutdown", words.State.OFF)


def initiate_reboot(host: SimulatedHost, component: Instance, _arguments: Arguments) -> Arguments:
    """InitiateReboot: the same, and the guest starts again."""
    return _guest_ends(host, component, "guest_reboot", words.State.RUNNING)


def _guest_ends(host: SimulatedHost, component: Instance, kind: str, goal: words.State) -> Arguments:
    identifier = str(component["SystemName"])
    machine = host.machine(identifier)
    if machine is None or machine["EnabledState"] != words.State.RUNNING:
        raise Refused(ReturnCode.V2_INVALID_STATE)

    def act() -> None:
        now = host.machine(identifier)
        guest = host.guests.get(identifier)
        if now is None or guest is None or now["EnabledState"] != words.State.RUNNING or not guest.obeys:
            return
        reach(host, now, goal, cold=True)
        host.record(identifier, kind)

    host.timetable.after(host.facts.shutdown_seconds, act)
    return {"ReturnValue": ReturnCode.COMPLETED}


def request_job_state(host: SimulatedHost, job: Instance, arguments: Arguments) -> Arguments:
    """RequestStateChange of a job: 4 (terminate) or 5 (kill), for one that can be cancelled."""
    identifier = str(job["InstanceID"])
    if identifier not in host.jobs:
        raise Refused(ReturnCode.V2_INVALID_STATE)
    if not job["Cancellable"] or arguments.get("RequestedState") not in {4, 5}:
        raise Refused(ReturnCode.V2_NOT_SUPPORTED)
    del host.jobs[identifier]
    for machine in [name for name, busy in host.busy.items() if busy == identifier]:
        del host.busy[machine]
    job["JobState"] = int(JobState.TERMINATED)
    job["JobStatus"] = "Cancelled"
    return {"ReturnValue": ReturnCode.COMPLETED}
