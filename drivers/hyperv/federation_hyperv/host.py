"""One Hyper-V host: what is read from it, and how a change is asked for and followed to its end.

A change is one call of a method.  It is done when it answers 0, and under way as a job when it answers 4096.  Jobs live in
the host's management service, so they outlive whoever asked for them: a repeat waits for them (``wait_idle``) before it
looks at what is there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from federation.contract.errors import (
    HypervisorRefused,
    HypervisorUnreachable,
    NotFound,
    OperationError,
    OutcomeUnknown,
)
from federation_hyperv import msvm, names
from federation_hyperv.attempt import Attempt
from federation_hyperv.cim import VIRTUALIZATION, Instance, Reference
from federation_hyperv.cim.codes import JobState
from federation_hyperv.connection import Link, Reply, error_of_job
from federation_hyperv.facts import Parts, Properties
from federation_hyperv.settings import HostSettings, Settings

VSMS = "Msvm_VirtualSystemManagementService"
IMAGES = "Msvm_ImageManagementService"
SNAPSHOTS = "Msvm_VirtualSystemSnapshotService"
MIGRATIONS = "Msvm_VirtualSystemMigrationService"

_UNDER_WAY = frozenset(int(state) for state in JobState if not state.is_final)
_COMPLETED = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_WARNINGS})
_FIRST_LOOK_SECONDS = 0.05
_LONGEST_LOOK_SECONDS = 1.0
_OTHERS_LOOK_SECONDS = 0.2

_SETTINGS = "InstanceID, VirtualSystemIdentifier, ElementName, Notes, BIOSGUID, VirtualSystemSubType, VirtualSystemType"
_RESOURCES = "CIM_ResourceAllocationSettingData"
"""What processors, memory, drives, disks and adapters all are; a query for it answers with each object's own class."""
_CONNECTIONS = "Msvm_EthernetPortAllocationSettingData"
_VLANS = "Msvm_EthernetSwitchPortVlanSettingData"
_PARTS: dict[str, str] = {
    "Msvm_ProcessorSettingData": "processor",
    "Msvm_MemorySettingData": "memory",
    "Msvm_ResourceAllocationSettingData": "resources",
    "Msvm_StorageAllocationSettingData": "storage",
    "Msvm_SyntheticEthernetPortSettingData": "ports",
    _CONNECTIONS: "connections",
    _VLANS: "vlans",
}
"""Class of a setting to where :class:`Parts` keeps it."""
_SIZES = {
    "Msvm_ProcessorSettingData": "VirtualQuantity",
    "Msvm_MemorySettingData": "VirtualQuantity, Limit, DynamicMemoryEnabled",
}
_DEVICES = {
    "Msvm_ResourceAllocationSettingData": "ResourceSubType, Parent, Address, AddressOnParent",
    "Msvm_StorageAllocationSettingData": "Parent, HostResource",
    "Msvm_SyntheticEthernetPortSettingData": "Address, ElementName",
    _CONNECTIONS: "Parent, HostResource",
    _VLANS: "AccessVlanId",
}
"""What ``facts`` reads of each class besides the InstanceID: all that is asked for of many machines at once."""


class Host:
    """A host by its node name."""

    def __init__(self, node: str, settings: Settings) -> None:
        self.node = node
        self.all = settings
        self.settings: HostSettings = settings.hosts[node]
        self.timeouts = settings.timeouts
        self.link = Link(node, settings)
        self.pools = {"": self.settings.folder, **settings.volume_folders}
        # A service's reference never changes; reading it twice at the same time is harmless.
        self._services: dict[str, Reference] = {}

    def query(self, wql: str, namespace: str = VIRTUALIZATION) -> list[Instance]:
        """All objects that a WQL query finds."""
        return self.link.query(wql, namespace)

    def select(
        self, classname: str, where: str = "", fields: str = "*", namespace: str = VIRTUALIZATION
    ) -> list[Instance]:
        """All objects of a class for which a condition holds, whole or some ``fields``; texts are ``quoted`` or ids."""
        condition = f" WHERE {where}" if where else ""
        return self.link.query(f"SELECT {fields} FROM {classname}{condition}", namespace)  # noqa: S608 (WQL only reads)

    def service(self, classname: str) -> Reference:
        """The one object of a service's class."""
        if classname not in self._services:
            found = self.select(classname)
            if not found:
                raise HypervisorRefused(f"{self.node} has no {classname}: is Hyper-V's role installed?")
            self._services[classname] = found[0].reference
        return self._services[classname]

    def heads(self, where: str = "") -> list[Parts]:
        """Settings and state of machines, nothing else; two requests whatever their number."""
        real = f"VirtualSystemType = '{msvm.REALIZED}'" + (f" AND ({where})" if where else "")
        settings = self.select("Msvm_VirtualSystemSettingData", real, _SETTINGS)
        parts = {one.guid: one for one in (Parts(settings=found.properties) for found in settings) if one.guid}
        if not parts:
            return []
        named = f"Name = '{next(iter(parts))}'" if len(parts) == 1 else ""
        for found in self.select("Msvm_ComputerSystem", named, "Name, EnabledState"):
            one = parts.get(str(found["Name"] or "").upper())
            if one is not None:
                one.system, one.state = found.properties, int(found["EnabledState"] or 0)
        # Without its system it is being made or removed at this moment.
        return [one for one in parts.values() if one.state is not None]

    def find(self, instance: str) -> list[Parts]:
        """Machines that may bear this id: by the BIOSGUID that create gives, or by Hyper-V's own."""
        upper = instance.upper()
        return self.heads(
            f"BIOSGUID = '{names.bios_guid(instance)}' OR BIOSGUID = '{upper}' OR VirtualSystemIdentifier = '{upper}'"
        )

    def fill(self, machines: list[Parts]) -> None:
        """Read the settings of these machines' devices: of one machine whole, of several what ``facts`` reads.

        A constant number of queries, whatever the number of machines.
        """
        if len(machines) > 1:
            self._distribute(machines, self._of_all({**_SIZES, **_DEVICES}))
        elif machines:
            only = f"InstanceID LIKE 'Microsoft:{machines[0].guid}%'"
            found = self.select(_RESOURCES, only)
            if any(one.class_name == _CONNECTIONS for one in found):
                found += self.select(_VLANS, only)
            self._distribute(machines, found)

    def fill_sizes(self, machines: list[Parts]) -> None:
        """Read processors and memory of these machines: two queries, whatever their number."""
        self._distribute(machines, self._of_all(_SIZES))

    def _of_all(self, classes: Mapping[str, str]) -> list[Instance]:
        return [
            one for name, fields in classes.items()
            for one in self.select(name, fields=f"InstanceID, {fields}")
        ]  # fmt: skip

    @staticmethod
    def _distribute(machines: list[Parts], found: list[Instance]) -> None:
        by_guid = {one.guid: one for one in machines}
        for one in found:
            owner = by_guid.get(msvm.machine_of(str(one["InstanceID"] or "")))
            field = _PARTS.get(one.class_name)
            if owner is not None and field is not None:
                _put(owner, field, one.properties)

    def switches(self) -> dict[str, str]:
        """Virtual switches: name by id (upper case)."""
        found = self.select("Msvm_VirtualEthernetSwitch")
        return {str(one.properties["Name"]).upper(): str(one.properties.get("ElementName") or "") for one in found}

    def parts(self, guid: str) -> Parts:
        """Everything of one machine, read anew; NotFound when it has gone."""
        found = self.heads(f"VirtualSystemIdentifier = '{guid}'")
        if not found:
            raise NotFound(f"{self.node} has no machine {guid} any more", node=self.node)
        self.fill(found)
        return found[0]

    def run(  # noqa: PLR0913 (one call with all that bounds it)
        self,
        attempt: Attempt,
        what: str,
        target: Reference,
        method: str,
        parameters: dict[str, Any],
        *,
        seconds: float | None = None,
        stage: str = "",
    ) -> Reply:
        """Make one change behind a guard and follow it to its end.

        A job goes on when the operation is interrupted: it is waited for, then the interruption is raised, so that
        whoever undoes it sees its end.  Raises what the return code or the job's error means, OutcomeUnknown when the job
        does not end within ``seconds`` (default: the timeout for changes).
        """
        attempt.guard()
        reply = self.link.invoke(target, method, parameters)
        if reply.started:
            self._follow(attempt, what, reply, seconds or self.timeouts.change_seconds, stage)
        return reply

    def ask(self, target: Reference, method: str, parameters: dict[str, Any]) -> Reply:
        """Call a method that changes nothing."""
        return self.link.invoke(target, method, parameters)

    def wait_idle(self, attempt: Attempt, concerns: Callable[[Properties], bool], seconds: float | None = None) -> None:
        """Wait for the jobs that an earlier attempt may have left: those under way that ``concerns`` says are about us."""
        deadline = time.monotonic() + (seconds or self.timeouts.copy_seconds)
        while any(concerns(job) for job in self.jobs()):
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{self.node}: a job of an earlier attempt does not end")
            attempt.progress(None, "waiting for what an earlier attempt has begun")
            attempt.sleep(_OTHERS_LOOK_SECONDS)

    def jobs(self) -> list[Properties]:
        """Every job that is under way."""
        under_way = " OR ".join(f"JobState = {state}" for state in sorted(_UNDER_WAY))
        classes = "Msvm_ConcreteJob", "Msvm_StorageJob", "Msvm_MigrationJob"
        found = [one for name in classes for one in self.select(name, under_way)]
        return [one.properties for one in found]

    def associated(self, target: Reference, association: str) -> list[Instance]:
        """What an association ties to an object; nothing when the object has gone."""
        name = target.path().partition(":")[2]
        try:
            return self.query(f"ASSOCIATORS OF {{{name}}} WHERE AssocClass = {association}")
        except NotFound:
            return []

    def systems_jobs(self, guid: str) -> list[Instance]:
        """The jobs under way that affect one machine."""
        found = self.associated(msvm.machine(guid), "Msvm_AffectedJobElement")
        return [one for one in found if one["JobState"] in _UNDER_WAY]

    def wait_machine(self, attempt: Attempt, guid: str, seconds: float | None = None) -> None:
        """Wait until no job affects a machine any more."""
        deadline = time.monotonic() + (seconds or self.timeouts.migrate_seconds)
        while self.systems_jobs(guid):
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{self.node}: a job of machine {guid} does not end")
            attempt.progress(None, "waiting for a job on the machine")
            attempt.sleep(_OTHERS_LOOK_SECONDS)

    def _follow(self, attempt: Attempt, what: str, reply: Reply, seconds: float, stage: str) -> None:
        job = reply.job
        if job is None:
            raise OutcomeUnknown(f"{self.node}: {what}: a job was started and not named")
        deadline, wait = time.monotonic() + seconds, _FIRST_LOOK_SECONDS
        interruption: OperationError | None = None
        while True:
            found = self.link.get(job)
            if found is None:
                raise HypervisorUnreachable(f"{self.node}: the host has forgotten the job that was to {what}")
            if found["JobState"] not in _UNDER_WAY:
                break
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{self.node}: {what} did not end within {seconds:g} s", seconds=seconds)
            if stage:
                attempt.progress(_percent(found.properties), stage)
            try:
                attempt.sleep(wait)
            except OperationError as error:
                interruption = error
            wait = min(wait * 2, _LONGEST_LOOK_SECONDS)
        if found["JobState"] not in _COMPLETED or found["ErrorCode"]:
            raise error_of_job(f"{self.node}: {what}", found.properties)
        if interruption is not None:
            raise interruption


def _put(parts: Parts, field: str, properties: Properties) -> None:
    held = getattr(parts, field)
    if isinstance(held, list):
        held.append(properties)
    else:
        setattr(parts, field, properties)


def _percent(job: Properties) -> float | None:
    value = job.get("PercentComplete")
    return None if value is None else float(min(100, max(0, int(value))))


def quoted(text: str) -> str:
    """A text as WQL takes it between single quotes."""
    return re.sub(r"(['\\])", r"\\\1", text)
