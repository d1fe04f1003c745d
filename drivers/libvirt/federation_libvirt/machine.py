"""One domain on one host: looked at and changed, one libvirt call each."""

from __future__ import annotations

import dataclasses
import logging
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from federation.contract.errors import (
    Conflict,
    HypervisorRefused,
    InvalidRequest,
    InvalidState,
    NotFound,
    OperationError,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.instances import Instance, PowerState
from federation_libvirt import connection, device_xml, domain_xml, facts, names, ownership
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import Native
from federation_libvirt.facts import Look, VolumeFacts
from federation_libvirt.host import Host
from federation_libvirt.ownership import Ownership
from federation_libvirt.waiting import Watch

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_LOOK_SECONDS = 0.2
_LOOK_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of the power state; ``slow`` ones move the guest's whole memory."""

    verb: str
    act: Callable[[Native], object]
    target: PowerState
    slow: bool = False


class Machine:
    """A domain, named by its UUID, which is the instance's id."""

    def __init__(self, host: Host, instance: str) -> None:
        self.host = host
        self.instance = instance
        self._link = host.link

    def look(self) -> Look:
        """How it is now; NotFound when it is gone."""
        for _ in range(_LOOK_TRIES):
            try:
                return self._link.read(f"look at {self.instance}", lambda c: _look(self._find(c)))
            except InvalidState:
                continue  # it stopped between two questions
        raise Conflict(f"{self.host.node}: {self.instance} starts and stops all the time", instance=self.instance)

    def wait_idle(self, attempt: Attempt) -> Look:
        """How it is once nothing is going on any more: an older attempt's call may be under way.

        Raises OutcomeUnknown when it does not come to an end.
        """
        end = time.monotonic() + self.host.settings.timeouts.save_seconds
        while (look := self.look()).busy:
            if time.monotonic() > end:
                raise OutcomeUnknown(f"{self.host.node}: {self.instance} is still busy: {look.busy}", busy=look.busy)
            attempt.progress(None, f"waiting for the hypervisor: {look.busy}")
            attempt.sleep(_LOOK_SECONDS)
        return look

    def definition(self) -> ET.Element:
        """The definition on disk, which the next start takes."""
        flags = connection.XML_INACTIVE | connection.XML_SECURE
        return domain_xml.parse(
            self._link.read(f"read the definition of {self.instance}", lambda c: self._find(c).XMLDesc(flags))
        )

    def current(self, *, secrets: bool = False) -> ET.Element:
        """The running domain, or the definition when it does not run; with its passwords when ``secrets``."""
        flags = connection.XML_SECURE if secrets else 0
        return domain_xml.parse(self._link.read(f"read {self.instance}", lambda c: self._find(c).XMLDesc(flags)))

    def exists(self) -> bool:
        """Whether the host has it."""
        try:
            self.ask("find", lambda d: d.UUIDString())
        except NotFound:
            return False
        return True

    def ask(self, verb: str, question: Callable[[Native], Answer]) -> Answer:
        """Ask the virDomain something; raises as ``Link.read`` does, NotFound when it is gone."""
        return self._link.read(f"{verb} {self.instance}", lambda c: question(self._find(c)))

    def owner(self) -> Ownership:
        """Our metadata in the definition.  Conflict when somebody has removed it meanwhile."""
        owner = ownership.read(self.definition())
        if owner is None:
            raise Conflict(f"{self.host.node}: {self.instance} has lost our metadata", instance=self.instance)
        return owner

    def instance_facts(self, cluster: str) -> Instance:
        """What the contract says of it."""
        current, look = self.current(), self.look()
        found = facts.instance(current, look, self.host.node, cluster, self._volumes(current))
        if not (found.interfaces and look.active):
            return found
        return facts.with_addresses(found, self.ask("read addresses of", _addresses))

    def volume_size(self, target: str) -> int | None:
        """Bytes of the disk at that device, None when libvirt cannot read it now."""
        try:
            return int(self.ask(f"measure {target} of", lambda d: d.blockInfo(target))[0])
        except (HypervisorRefused, InvalidRequest) as error:
            logger.info("%s", error)
            return None

    def _volumes(self, domain: ET.Element) -> dict[str, VolumeFacts]:
        """Volumes by device; the node is asked only when there is a disk that is not the instance's own."""
        disks = domain.findall("devices/disk")
        if all(names.belongs_to(self.instance, device_xml.path_of(disk).rpartition("/")[2]) for disk in disks):
            return {}
        folders, found = self.host.pool_folders(), {}
        for disk in disks:
            volume = facts.volume_of(self.instance, disk, folders)
            target = device_xml.target_of(disk)
            if volume is not None:
                found[target] = dataclasses.replace(volume, size_bytes=self.volume_size(target))
        return found

    def define(self, attempt: Attempt, xml: str) -> None:
        """Make or replace the definition; libvirt checks it against its schema."""
        flags = connection.DEFINE_VALIDATE
        self._link.change(attempt, f"define {self.instance}", lambda c: c.defineXMLFlags(xml, flags))

    def write_owner(self, attempt: Attempt, owner: Ownership, *, live: bool) -> None:
        """Replace our metadata in the definition, and in the running domain too when ``live``."""
        flags = connection.CONFIG | (connection.LIVE if live else 0)
        text = ownership.plain_text(owner)
        self.act(
            attempt,
            "mark",
            lambda d: d.setMetadata(
                connection.METADATA_ELEMENT, text, ownership.PREFIX, ownership.NAMESPACE, flags
            ),
        )  # fmt: skip

    def start(self, attempt: Attempt) -> None:
        """Start it, from the saved memory when there is one."""
        self._reach(attempt, _Step("start", lambda d: d.create(), PowerState.RUNNING, slow=True))

    def stop(self, attempt: Attempt) -> None:
        """Take the power away; forget a saved memory."""
        if self.look().saved:
            self.act(attempt, "forget the saved memory of", lambda d: d.managedSaveRemove(0))
        else:
            self._reach(attempt, _Step("stop", lambda d: d.destroy(), PowerState.STOPPED))

    def press_power_button(self, attempt: Attempt) -> None:
        """Ask the guest to shut down; it may not listen."""
        flags = connection.SHUTDOWN_ACPI
        self._reach(attempt, _Step("ask to shut down", lambda d: d.shutdownFlags(flags), PowerState.STOPPED))

    def pause(self, attempt: Attempt) -> None:
        """Halt its processors."""
        self._reach(attempt, _Step("pause", lambda d: d.suspend(), PowerState.PAUSED))

    def unpause(self, attempt: Attempt) -> None:
        """Let its processors run."""
        self._reach(attempt, _Step("unpause", lambda d: d.resume(), PowerState.RUNNING))

    def save(self, attempt: Attempt, meanwhile: Callable[[], None]) -> None:
        """Save its memory and stop it; it will run when it comes back, even if it was paused.

        ``meanwhile`` is called while it lasts; when that ends the operation, the save is given up.
        """
        flags = connection.SAVE_RUNNING
        step = _Step("save the memory of", lambda d: d.managedSave(flags), PowerState.SUSPENDED, slow=True)
        self._reach(attempt, step, self.watch(attempt, meanwhile))

    def job_percent(self) -> float | None:
        """How far the job has come that is under way, None when there is none or nobody knows."""
        try:
            info = self._link.read(f"look at the job of {self.instance}", lambda c: self._find(c).jobInfo())
        except (InvalidState, NotFound):
            return None
        kind, total, processed = info[0], info[3], info[4]
        return min(100.0 * processed / total, 100.0) if kind in connection.JOB_RUNNING and total else None

    def abort_job(self, attempt: Attempt) -> None:
        """Give up what is going on; nothing when that has come to its end."""
        try:
            self.act(attempt, "abort the job of", lambda d: d.abortJob())
        except InvalidState:
            return

    def watch(self, attempt: Attempt, tell: Callable[[], None]) -> Watch:
        """For a change that libvirt knows as a job: given up, it is aborted once it has begun, and waited for."""
        return Watch(tell, lambda: self._abort_begun(attempt))

    def _abort_begun(self, attempt: Attempt) -> bool:
        try:
            if self.look().busy:
                self.abort_job(attempt)
        except NotFound:
            logger.info("%s: %s has left, there is nothing to give up", self.host.node, self.instance)
        return False

    def undefine(self, attempt: Attempt) -> None:
        """Remove the definition with all that libvirt keeps beside it; NotFound when it is gone."""
        self.act(attempt, "undefine", lambda d: d.undefineFlags(connection.UNDEFINE_ALL))

    def _reach(
        self,
        attempt: Attempt,
        step: _Step,
        watch: Watch | None = None,
    ) -> None:
        """Change it; an error counts for nothing when it is where it should be: an older call was faster."""
        limit = self.host.settings.timeouts.save_seconds if step.slow else None
        try:
            self._link.change(
                attempt,
                f"{step.verb} {self.instance}",
                lambda c: step.act(self._find(c)),
                seconds=limit,
                watch=watch,
            )
        except (InvalidState, HypervisorRefused, TimedOut, Conflict) as error:
            if error is attempt.interruption:
                raise
            if self.wait_idle(attempt).power_state is not step.target:
                raise _stated(error) from error

    def act(
        self,
        attempt: Attempt,
        verb: str,
        act: Callable[[Native], object],
        *,
        seconds: float | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Make one change on the virDomain; raises as ``Link.change`` does, NotFound when it is gone."""
        self._link.change(
            attempt,
            f"{verb} {self.instance}",
            lambda c: act(self._find(c)),
            seconds=seconds,
            watch=watch,
        )

    def _find(self, native: Native) -> Native:
        return native.lookupByUUIDString(self.instance)


def _stated(error: OperationError) -> OperationError:
    """Turn libvirt's "not valid now" after we had looked into a conflict: somebody else moved the domain."""
    return Conflict(error.message, **error.detail) if isinstance(error, InvalidState) else error


def _look(domain: Native) -> Look:
    active = bool(domain.isActive())
    state, reason = domain.state()
    name = connection.STATE_NAMES.get(state, "nostate")
    if not active:
        return Look(
            state=name,
            active=False,
            saved=domain.hasManagedSaveImage(0) == 1,
            never_started=reason in connection.NEVER_STARTED,
            ended_on_purpose=reason in connection.ENDED_ON_PURPOSE,
        )
    busy = ""
    if name == "paused" and reason in connection.TRANSIENT_PAUSES:
        busy = f"paused for the moment (reason {reason})"
    elif name == "shutdown":
        busy = "its guest has gone down, QEMU has not yet"
    else:
        busy = connection.job_under_way(domain)
    crashed = name == "crashed" or (name == "paused" and reason == connection.PAUSED_CRASHED)
    return Look(state=name, active=True, busy=busy, guest_crashed=crashed)


def _addresses(domain: Native) -> list[dict[str, Any]]:
    """What each source knows, the best first; nothing from those that do not know this domain's kind of network."""
    asked = (connection.unless_refused(partial(domain.interfaceAddresses, s)) for s in connection.ADDRESS_SOURCES)
    return [found for found in asked if found]


def replaced(owner: Ownership, **changes: object) -> Ownership:
    """The same metadata with some fields changed."""
    return msgspec.structs.replace(owner, **changes)
