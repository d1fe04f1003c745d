"""One simulated host: its instances, its files, and what is there before anybody makes a machine."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.codes import JobState
from federation_hyperv.testing import furniture, words
from federation_hyperv.testing.effects import EffectLog
from federation_hyperv.testing.faults import FaultKind, Faults
from federation_hyperv.testing.files import Files
from federation_hyperv.testing.jobs import Job, JobError, Timetable, new_job
from federation_hyperv.testing.repository import Repository
from federation_hyperv.testing.wql import Select


class Refused(Exception):
    """A method returns this code, and nothing happened."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What one host has, and how long its jobs take (seconds)."""

    name: str
    processors: int = 16
    memory_bytes: int = 64 << 30
    disk_bytes: int = 1 << 40
    switches: tuple[str, ...] = ("external",)
    job_seconds: float = 0.05
    shutdown_seconds: float = 0.1
    max_envelope_bytes: int = 500 << 10
    """WinRM's MaxEnvelopeSizekb: no answer is longer."""


@dataclass(slots=True)
class Guest:
    """What cannot be read off the instances of a machine: since when it runs, how its guest behaves."""

    running_since: float | None = None
    boots: int = 0
    obeys: bool = True
    """Whether it shuts down when asked."""
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)


class SimulatedHost:
    """The state of one host; every method is called under the cluster's lock."""

    def __init__(
        self, facts: HostFacts, *, files: Files, effects: EffectLog, faults: Faults, timetable: Timetable,
        peers: Mapping[str, SimulatedHost],
    ) -> None:  # fmt: skip
        self.facts = facts
        self.name = facts.name
        self.files = files
        self.faults = faults
        self.effects = effects
        self.timetable = timetable
        self.peers = peers
        """All hosts by lower-case name, this one too."""
        self.repository = Repository(facts.name)
        self.guests: dict[str, Guest] = {}
        self.jobs: dict[str, Job] = {}
        self.busy: dict[str, str] = {}
        """Machines that a job works on, and the job."""
        self.defaults: dict[str, Instance] = {}
        """What a new resource of each kind starts from."""
        self.is_gone = False
        """Whether it has lost power or network: it answers nothing, and its jobs do not end."""
        self.booted = dt.datetime.now(dt.UTC)
        self.repository.fresh = self._fresh
        for name in ("cim_datafile", "win32_directory"):
            self.repository.providers[name] = self.files.listing
        for name in ("win32_operatingsystem", "win32_logicaldisk", "win32_processor"):
            self.repository.providers[name] = self._moving_facts
        furniture.furnish(self)

    def _moving_facts(self, query: Select) -> list[Instance]:
        return [
            furniture.with_moving_facts(self, item) for item in self.repository.all(query.class_name)
        ]  # fmt: skip

    def machines(self) -> list[Instance]:
        """All virtual machines."""
        return [
            item for item in self.repository.all("Msvm_ComputerSystem")
            if item["Description"] == words.MACHINE_DESCRIPTION
        ]  # fmt: skip

    def memory_in_use(self) -> int:
        """Bytes that running machines hold."""
        return sum(self.memory_of(item) for item in self.machines() if self.is_running(item))

    def memory_of(self, machine: Instance) -> int:
        """The start-up memory of a machine, in bytes."""
        found = self.resources(self.settings_of(machine), "Msvm_MemorySettingData")
        return int(found[0]["VirtualQuantity"] or 0) << 20 if found else 0

    @staticmethod
    def is_running(machine: Instance) -> bool:
        """Whether it has memory: running, paused, or on the way."""
        return machine["EnabledState"] in {
            words.State.RUNNING, words.State.PAUSED, words.State.STARTING, words.State.STOPPING,
        }  # fmt: skip

    def settings_of(self, machine: Instance) -> Instance:
        """The settings that define a machine's state."""
        return self.repository.associated(machine, "Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingData")[0]

    def resources(self, settings: Instance, class_name: str = "CIM_ResourceAllocationSettingData") -> list[Instance]:
        """The resources of settings."""
        return self.repository.associated(settings, "Msvm_VirtualSystemSettingDataComponent", class_name)

    def machine(self, identifier: str) -> Instance | None:
        """A machine by its id."""
        return self.repository.find(
            Reference("Msvm_ComputerSystem", (("CreationClassName", "Msvm_ComputerSystem"), ("Name", identifier)))
        )

    def start_job(
        self, class_name: str, caption: str, affected: Instance, finish: Callable[[], None], *,
        seconds: float | None = None, machine: str = "", partial: Callable[[], None] | None = None,
    ) -> Instance:  # fmt: skip
        """Begin a job; ``machine`` is busy until it ends, ``partial`` is what half of the work leaves behind."""
        instance = self.repository.add(new_job(class_name, caption))
        identifier = str(instance["InstanceID"])
        lasting = self.facts.job_seconds if seconds is None else seconds
        job = Job(instance, time.monotonic(), lasting, finish)
        action = caption.replace(" ", "")
        if fault := self.faults.take(self.name, action, FaultKind.HANG_JOB):
            job.seconds += fault.seconds
        if fault := self.faults.take(self.name, action, FaultKind.FAIL_JOB, FaultKind.PARTIAL_JOB):
            job.fails_with = JobError(fault.code, fault.description)
            job.partial = partial if fault.kind is FaultKind.PARTIAL_JOB else None
        self.jobs[identifier] = job
        if machine:
            self.busy[machine] = identifier
        self.repository.tie("Msvm_AffectedJobElement", AffectedElement=affected, AffectingElement=instance)
        self.timetable.after(job.seconds, lambda: self._end_job(identifier, machine))
        return instance

    def _end_job(self, identifier: str, machine: str) -> None:
        if self.is_gone:
            self.timetable.after(0.05, lambda: self._end_job(identifier, machine))
            return
        job = self.jobs.pop(identifier, None)
        if job is None:
            return
        if machine and self.busy.get(machine) == identifier:
            del self.busy[machine]
        error = job.fails_with
        work = job.finish if error is None else job.partial
        if work is not None:
            try:
                work()
            except JobError as failure:
                error = failure
        instance = job.instance
        instance["JobState"] = int(JobState.EXCEPTION if error else JobState.COMPLETED)
        instance["JobStatus"] = "Job failed" if error else "Completed successfully"
        instance["PercentComplete"] = 100 if error is None else job.percent(time.monotonic())
        instance["OperationalStatus"] = [6 if error else 2]
        instance["ElapsedTime"] = dt.timedelta(seconds=time.monotonic() - job.began)
        if error is not None:
            instance["ErrorCode"] = error.code & 0xFFFF
            instance["ErrorDescription"] = str(error)
            instance["ErrorSummaryDescription"] = str(error)

    def record(self, machine: str, kind: str, target: str = "", *, started: float = 0.0, **arguments: object) -> None:
        """Write an effect; ``machine`` is an id, or `node:NAME`."""
        now = time.monotonic()
        found = self.machine(machine)
        self.effects.append({
            "key": machine.lower(), "node": self.name, "kind": kind, "target": target, "wall": time.time(),
            "name": found["ElementName"] or "" if found else "", "started": started or now, "ended": now,
            "arguments": arguments, "after": self.seen(found) if found else {},
        })  # fmt: skip

    def seen(self, machine: Instance) -> dict[str, Any]:
        """What anybody sees of a machine."""
        settings = self.settings_of(machine)
        guest = self.guests.get(str(machine["Name"]), Guest())
        processors = self.resources(settings, "Msvm_ProcessorSettingData")
        disks = self.resources(settings, "Msvm_StorageAllocationSettingData")
        adapters = self.resources(settings, "Msvm_SyntheticEthernetPortSettingData")
        checkpoints = self.repository.associated(machine, "Msvm_SnapshotOfVirtualSystem")
        return {
            "power_state": words.State(machine["EnabledState"]).name.lower(),
            "vcpus": processors[0]["VirtualQuantity"] if processors else 0,
            "memory_bytes": self.memory_of(machine),
            "boots": guest.boots,
            "disks": sorted(path for disk in disks for path in disk["HostResource"] or []),
            "interfaces": sorted(str(adapter["Address"]) for adapter in adapters),
            "snapshots": sorted(str(item["ElementName"]) for item in checkpoints),
            "notes": settings["Notes"] or [],
            "node": self.name,
        }

    def _fresh(self, instance: Instance) -> Instance:
        """The instance with what moves by itself."""
        if instance.class_name == "Msvm_ComputerSystem":
            guest = self.guests.get(str(instance["Name"]))
            if guest is not None:
                up = time.monotonic() - guest.running_since if guest.running_since is not None else 0.0
                return instance.copy(OnTimeInMilliseconds=int(up * 1000))
        elif "JobState" in instance.cim_class.properties:
            job = self.jobs.get(str(instance["InstanceID"]))
            if job is not None:
                now = time.monotonic()
                return instance.copy(
                    PercentComplete=job.percent(now), ElapsedTime=dt.timedelta(seconds=now - job.began)
                )
        elif instance.class_name == "Win32_OperatingSystem":
            return furniture.with_moving_facts(self, instance)
        return instance


def new_identifier() -> str:
    """A GUID as Hyper-V writes one."""
    return str(uuid.uuid4()).upper()
