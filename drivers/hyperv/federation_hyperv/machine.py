"""One machine on one host: its state, its note, and the changes that several operations share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from federation.contract.errors import NotFound, OutcomeUnknown
from federation.contract.instances import Instance, PowerState
from federation_hyperv import cim, facts, msvm, notes
from federation_hyperv.attempt import Attempt
from federation_hyperv.facts import Parts
from federation_hyperv.host import VSMS, Host
from federation_hyperv.notes import Note
from federation_hyperv.storage import Store

_LOOK_SECONDS = 0.1
_SETTLING_SECONDS = 60.0


@dataclass(slots=True)
class Machine:
    """A machine as it was when it was found; ``look`` and ``read`` bring what is there now."""

    host: Host
    instance: str
    parts: Parts
    full: bool = field(default=False)

    @property
    def guid(self) -> str:
        """Hyper-V's own id of it."""
        return self.parts.guid

    @property
    def name(self) -> str:
        """Host and instance, for messages."""
        return f"{self.host.node}: {self.instance}"

    @property
    def power_state(self) -> PowerState:
        """As it was at the last look."""
        return facts.power_state(self.parts)

    @property
    def active(self) -> bool:
        """Whether a guest runs or waits in it."""
        return self.power_state not in {PowerState.STOPPED, PowerState.SUSPENDED}

    @property
    def note(self) -> Note:
        """Our note on it; NotFound when somebody has taken it off meanwhile."""
        note = self.parts.note
        if note is None:
            raise NotFound(f"{self.name} does not bear our note any more", instance=self.instance)
        return note

    @property
    def store(self) -> Store:
        """Where its files lie."""
        return store_of(self.host)

    def look(self) -> PowerState:
        """Settings and state anew; NotFound when it has gone."""
        found = self.host.heads(f"VirtualSystemIdentifier = '{self.guid}'")
        if not found:
            raise NotFound(f"{self.host.node} has no instance {self.instance} any more", instance=self.instance)
        self.parts, self.full = found[0], False
        return self.power_state

    def read(self) -> Parts:
        """Everything of it, anew."""
        self.parts, self.full = self.host.parts(self.guid), True
        return self.parts

    def devices(self) -> Parts:
        """Everything of it, read at most once since the last look."""
        if not self.full:
            self.host.fill([self.parts])
            self.full = True
        return self.parts

    def facts(self, cluster: str) -> Instance:
        """The contract's view, read anew."""
        parts = self.read()
        switches = self.host.switches() if parts.connections else {}
        return facts.instance(parts, self.host.node, cluster, self.host.pools, switches)

    def wait_idle(self, attempt: Attempt) -> PowerState:
        """Wait until no job is at it and its state is one that lasts.

        Raises OutcomeUnknown when it does not come to rest.
        """
        if attempt.recovering:
            self.host.wait_machine(attempt, self.guid)
        deadline = time.monotonic() + _SETTLING_SECONDS
        self.look()
        while not msvm.settled(self.parts.state):
            self.host.wait_machine(attempt, self.guid)
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{self.name} stays in Hyper-V's state {self.parts.state}")
            attempt.sleep(_LOOK_SECONDS)
            self.look()
        return self.power_state

    def write_note(self, attempt: Attempt, note: Note) -> None:
        """Put our note on it in the place of the last one; a note that is there already is left."""
        if self.parts.note == note:
            return
        text = notes.write(self.parts.settings.get("Notes"), note)
        self.modify(attempt, {"Notes": [text]}, "note")
        self.parts.settings = {**self.parts.settings, "Notes": [text]}

    def modify(self, attempt: Attempt, properties: dict[str, cim.Value], what: str) -> None:
        """Change settings of the machine itself."""
        modify_settings(
            self.host, attempt, str(self.parts.settings["InstanceID"]), properties, f"{what} of {self.instance}"
        )

    def request_state(self, attempt: Attempt, state: int, what: str, seconds: float | None = None) -> None:
        """Ask for a state (``msvm.START`` …) and wait for it."""
        told = f"{what} {self.instance}"
        self.host.run(
            attempt, told, msvm.machine(self.guid), "RequestStateChange", {"RequestedState": state},
            seconds=seconds, stage=what,
        )  # fmt: skip

    def start(self, attempt: Attempt) -> None:
        """Start it, from its saved memory where there is one."""
        self.request_state(attempt, msvm.START, "start", self.host.timeouts.save_seconds)

    def stop(self, attempt: Attempt) -> None:
        """Take the power away; what is saved is discarded."""
        self.request_state(attempt, msvm.STOP, "stop")

    def add(self, attempt: Attempt, what: str, resources: list[cim.Instance]) -> None:
        """Add devices; all in one call."""
        self.host.run(
            attempt, f"add {what} to {self.instance}", self.host.service(VSMS), "AddResourceSettings",
            {"AffectedConfiguration": msvm.setting(str(self.parts.settings["InstanceID"])), "ResourceSettings": resources},
        )  # fmt: skip
        self.full = False

    def remove(self, attempt: Attempt, what: str, resources: list[cim.Reference]) -> None:
        """Take devices away; all in one call."""
        self.host.run(
            attempt, f"remove {what} from {self.instance}", self.host.service(VSMS), "RemoveResourceSettings",
            {"ResourceSettings": resources},
        )  # fmt: skip
        self.full = False

    def change(self, attempt: Attempt, what: str, resources: list[cim.Instance]) -> None:
        """Change devices; all in one call."""
        self.host.run(
            attempt, f"change {what} of {self.instance}", self.host.service(VSMS), "ModifyResourceSettings",
            {"ResourceSettings": resources},
        )  # fmt: skip
        self.full = False


def modify_settings(host: Host, attempt: Attempt, identity: str, properties: dict[str, cim.Value], what: str) -> None:
    """Change settings of a machine or a checkpoint; properties that are not named stay as they are."""
    settings = cim.Instance("Msvm_VirtualSystemSettingData", {"InstanceID": identity, **properties})
    host.run(attempt, what, host.service(VSMS), "ModifySystemSettings", {"SystemSettings": settings})


def store_of(host: Host) -> Store:
    """The driver's own folder on a host."""
    return Store(host, host.settings.folder, host.settings.mount)
