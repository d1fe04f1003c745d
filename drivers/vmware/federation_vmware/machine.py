"""One machine: how it is now, and the changes that can be made to it, each behind its guard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pyVmomi import vim

from federation.contract.errors import InvalidState, NotFound, OperationError
from federation.contract.instances import Instance, PowerState
from federation_vmware import facts, ownership, tasks
from federation_vmware.attempt import Attempt
from federation_vmware.connection import Connection, Reference, Session, gone
from federation_vmware.facts import Look
from federation_vmware.lifecycle_events import Listener, logged
from federation_vmware.ownership import Ownership
from federation_vmware.places import Places
from federation_vmware.settings import Settings
from federation_vmware.watcher import Inventory, Watcher


def replaced(owner: Ownership, **changes: object) -> Ownership:
    """The note with some fields changed."""
    return msgspec.structs.replace(owner, **changes)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of vCenter's; ``reference`` names it."""

    connection: Connection
    cluster: str
    instance: str
    reference: Reference

    def look(self) -> Look:
        """How it is now; NotFound when it is gone."""
        try:
            found = self.connection.properties(
                f"look at {self.instance}", vim.VirtualMachine, [self.reference], facts.PATHS
            )
        except OperationError as error:
            if gone(error):
                raise NotFound(
                    f"instance {self.instance} is not on cluster {self.cluster}", instance=self.instance
                ) from error
            raise
        return Look(self.reference, found[0][1])

    def settled(self, attempt: Attempt) -> Look:
        """How it is once whatever an earlier attempt left running has ended."""
        if attempt.recovering:
            tasks.settle_machine(self.connection, attempt, self.reference)
        return self.look()

    def owner(self, look: Look) -> Ownership:
        """Our note; InvalidState when the machine is not ours: foreign ones are never touched."""
        owner = look.owner(self.cluster)
        if owner is None:
            raise InvalidState(
                f"{self.instance} is foreign, not of cluster {self.cluster}; it is left alone", instance=self.instance
            )
        return owner

    def run(self, attempt: Attempt, what: str, start: Callable[[Any], Any], **how: Any) -> None:
        """Start one of its tasks behind a guard and wait for the end."""

        def begin(session: Session) -> Any:
            return start(session.bound(self.reference))

        try:
            tasks.run(self.connection, attempt, f"{what} {self.instance}", begin, **how)
        finally:
            self.connection.touched.append(self.reference)

    def reconfigure(  # noqa: PLR0913 - one change in one call
        self,
        attempt: Attempt,
        look: Look,
        what: str,
        *,
        owner: Ownership | None = None,
        devices: Iterable[Any] = (),
        notes: Mapping[str, str] | None = None,
        **hardware: Any,
    ) -> None:
        """Change hardware and note together, unless somebody else has changed the machine since ``look`` (Conflict)."""
        extra = dict(notes or {})
        if owner is not None:
            extra |= _updated(look.notes, owner)
        spec = vim.vm.ConfigSpec(
            changeVersion=look.change_version or None,
            extraConfig=option_values(extra),
            deviceChange=list(devices),
            **hardware,
        )
        self.run(attempt, what, lambda machine: machine.ReconfigVM_Task(spec))

    def power_on(self, attempt: Attempt) -> None:
        """Start it, or bring it back from suspension."""
        self.run(attempt, "start", lambda machine: machine.PowerOnVM_Task())

    def power_off(self, attempt: Attempt) -> None:
        """Take the power away."""
        self.run(attempt, "stop", lambda machine: machine.PowerOffVM_Task())

    def snapshots(self) -> Any:
        """VSphere's tree of its snapshots, None when it has none."""
        what = f"list snapshots of {self.instance}"
        found = self.connection.properties(what, vim.VirtualMachine, [self.reference], ["snapshot"])
        return found[0][1].get("snapshot")

    def relocate(self, attempt: Attempt, host: Reference, name: str, **how: Any) -> None:
        """Move it to another host of the cluster."""

        def begin(session: Session) -> Any:
            spec = vim.vm.RelocateSpec(host=session.bound(host))
            return session.bound(self.reference).RelocateVM_Task(spec, None)

        tasks.run(self.connection, attempt, f"move {self.instance} to {name}", begin, **how)


def _updated(present: Mapping[str, str], owner: Ownership) -> dict[str, str]:
    wanted = ownership.options(owner)
    stale = {
        key: ""
        for key, value in present.items()
        if value and key.startswith(f"{ownership.INSTANCE}.") and key not in wanted
    }
    return stale | {key: value for key, value in wanted.items() if present.get(key) != value}


def option_values(notes: Mapping[str, str]) -> list[Any]:
    """Keys and values as vSphere takes them."""
    return [vim.option.OptionValue(key=key, value=value) for key, value in notes.items()]


class Fleet:
    """The cluster: its places, its inventory, and where an instance is."""

    def __init__(self, settings: Settings, cluster: str, listeners: Iterable[Listener] = ()) -> None:
        self.settings = settings
        self.cluster = cluster
        self.connection = Connection(settings)
        self.places = Places(self.connection, settings)
        self._watcher = Watcher(
            self.connection, lambda: self.places.site().datacenter.reference, [logged(cluster), *listeners]
        )

    def inventory(self) -> Inventory:
        """Every machine of the datacenter as it is now."""
        return self._watcher.inventory()

    def power_state(self, machine: Machine) -> PowerState:
        """Whether it runs, by the inventory: whoever waits for a machine shares one question with all who wait.

        NotFound when it is gone.
        """
        look = self.inventory().get(facts.object_id(machine.reference))
        if look is None:
            raise NotFound(f"instance {machine.instance} is not on cluster {self.cluster}", instance=machine.instance)
        return look.power_state

    def looks(self) -> list[Look]:
        """Every machine on the cluster's hosts, templates left out, by id."""
        looks = [look for look in self.inventory().values() if not _is_template(look)]
        return sorted((look for look in looks if self.places.node_of(look.host)), key=lambda look: (look.id, look.host))

    def complete(self, looks: list[Look]) -> list[Look]:
        """The same machines with everything that is read of one; those that have gone meanwhile left out."""
        try:
            found = self.connection.properties(
                "read machines", vim.VirtualMachine, [look.reference for look in looks], facts.PATHS
            )
        except OperationError as error:
            if not gone(error):
                raise
            return [] if len(looks) == 1 else [one for look in looks for one in self.complete([look])]
        return [Look(reference, values) for reference, values in found]

    def find(self, instance: str) -> Machine:
        """Our instance; raises as ``see`` does, and InvalidState when the machine is not ours."""
        machine, look = self.see(instance)
        machine.owner(look)
        return machine

    def see(self, instance: str) -> tuple[Machine, Look]:
        """The machine with that id, ours or not, and how it is; NotFound when it is not on the cluster."""
        found = self.find_any(instance)
        if found is None:
            raise NotFound(f"instance {instance} is not on cluster {self.cluster}", instance=instance)
        return found

    def find_any(self, instance: str) -> tuple[Machine, Look] | None:
        """The machine with that id, ours or not; None when the cluster has none."""

        def ask(session: Session) -> Any:
            index = session.bound(session.content.searchIndex)
            return index.FindByUuid(None, instance, True, True)  # noqa: FBT003 - machines, by instanceUuid

        reference = self.connection.read(f"find {instance}", ask)
        if reference is None:
            return None
        machine = Machine(self.connection, self.cluster, instance, reference)
        try:
            look = machine.look()
        except NotFound:
            return None
        if look.id != instance or _is_template(look) or self.places.node_of(look.host) is None:
            return None
        return machine, look

    def facts(self, machine: Machine, look: Look | None = None) -> Instance:
        """The machine in the contract's words."""
        return self.shown(look or machine.look())

    def shown(self, look: Look) -> Instance:
        """A look in the contract's words."""
        node = self.places.node_of(look.host) or look.host
        return facts.instance(look, self.cluster, node, self.places.network_names())

    def node_of_name(self, name: str, instance: str) -> str | None:
        """A node that has another machine of this name, None when there is none."""
        for look in self.looks():
            owner = look.owner(self.cluster)
            known = owner.name if owner and owner.name else look.name
            if name in {known, look.name} and look.id != instance:
                return self.places.node_of(look.host)
        return None

    def close(self) -> None:
        """Let go of vCenter."""
        self._watcher.close()
        self.connection.close()


def _is_template(look: Look) -> bool:
    """A template, or a machine that is on its way to become one."""
    return look.template or ownership.read_template(look.notes) is not None
