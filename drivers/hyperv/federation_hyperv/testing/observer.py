"""The conformance kit's own eyes and hands on Hyper-V hosts: raw WS-Management, nothing of the driver's operations.

It works against simulated and real hosts alike; on a real one, the foreign machine that it plants is a real machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from federation_hyperv import msvm, names, notes
from federation_hyperv.cim import CIMV2, Instance, Reference
from federation_hyperv.connection import Link
from federation_hyperv.settings import Settings

_SERVICE = "Msvm_VirtualSystemManagementService"
_SECONDS = 30.0


class HypervObserver:
    """Looks at every host of the settings; WS-Management carries no operation's id, so ``changes`` cannot tell."""

    def __init__(self, settings: Settings, _cluster: str, _more: Mapping[str, str]) -> None:
        self._settings = settings
        self._links = {node: Link(node, settings) for node in sorted(settings.hosts)}

    def look(self, instance: str, stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """Machines that bear the id with their devices, snapshots and note, and files that bear it or a stored name."""
        seen: dict[str, Any] = {}
        for node, link in self._links.items():
            files = self._files(node)
            found = {
                "machines": [
                    self._machine(link, one, [instance, *stored]) for one in self._settings_of(link, instance)
                ],
                "files": sorted(name for name in files if name.startswith(instance)),
                "stored": sorted(name for name in files if any(one.lower() in name for one in stored)),
            }
            if any(found.values()):
                seen[node] = found
        return seen or None

    def changes(self, _operation: str) -> int | None:
        """It cannot tell."""
        return None

    def plant_foreign(self, node: str) -> str | None:
        """A running machine of somebody else."""
        link = self._links[node]
        settings = Instance(
            "Msvm_VirtualSystemSettingData",
            {
                "ElementName": f"foreign-{time.monotonic_ns():x}",
                "Notes": ["keep me"],
                "VirtualSystemSubType": msvm.GENERATION_1,
            },
        )
        before = {str(one["Name"]) for one in link.query("SELECT * FROM Msvm_ComputerSystem")}
        link.invoke(self._service(link), "DefineSystem", {"SystemSettings": settings})
        after = link.query(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = '{settings['ElementName']}'")
        made = next(str(one["Name"]) for one in after if str(one["Name"]) not in before)
        link.invoke(msvm.machine(made), "RequestStateChange", {"RequestedState": msvm.START})
        self._wait(link, made, 2)
        return made.lower()

    def remove_foreign(self, machine: str) -> None:
        """Its owner removes it."""
        for link in self._links.values():
            for one in link.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{machine.upper()}'"):
                if one["EnabledState"] != 3:
                    link.invoke(one.reference, "RequestStateChange", {"RequestedState": msvm.STOP})
                    self._wait(link, machine.upper(), 3)
                link.invoke(self._service(link), "DestroySystem", {"AffectedSystem": msvm.machine(machine.upper())})
                self._wait(link, machine.upper(), None)

    def discard(self, name: str) -> None:
        """Its owner deletes it."""
        for node, link in self._links.items():
            folder = self._settings.hosts[node].folder
            for file in self._files(node):
                if file == f"{name.lower()}.vhdx" or file.startswith(f"template-{name.lower()}."):
                    link.code_of(Reference("CIM_DataFile", (("Name", names.join(folder, file)),), CIMV2), "Delete", {})

    def close(self) -> None:
        """Let go of the hosts."""
        for link in self._links.values():
            link.close()

    def _machine(self, link: Link, settings: Instance, own: Sequence[str]) -> dict[str, Any]:
        identity = str(settings["InstanceID"])
        guid = str(settings["VirtualSystemIdentifier"])
        system = link.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{guid}'")
        shown = {
            "name": settings["ElementName"],
            "generation": settings["VirtualSystemSubType"],
            "state": [one["EnabledState"] for one in system],
            "note": _note(settings),
            "parts": sorted(self._parts(link, identity), key=lambda part: _without(part, own)),
        }
        snapshots = link.query(
            "SELECT * FROM Msvm_VirtualSystemSettingData "
            f"WHERE VirtualSystemIdentifier = '{guid}' AND VirtualSystemType = '{msvm.SNAPSHOT}'"
        )
        # A name that Hyper-V gives holds the moment.
        shown["snapshots"] = sorted(
            [str(one["ElementName"]).partition(" - (")[0], str(_note(one))] for one in snapshots
        )
        return shown

    def _parts(self, link: Link, identity: str) -> list[list[str]]:
        found: list[list[str]] = []
        for classname, properties in _SEEN.items():
            for one in link.query(f"SELECT * FROM {classname} WHERE InstanceID LIKE '{identity}%'"):
                found.append([classname, *(_text(name, one[name]) for name in properties)])  # noqa: PERF401 (two loops)
        return found

    def _settings_of(self, link: Link, instance: str) -> list[Instance]:
        every = link.query(f"SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType = '{msvm.REALIZED}'")
        return [
            one
            for one in every
            if instance in {names.guid(str(one["BIOSGUID"] or "")), names.guid(str(one["VirtualSystemIdentifier"]))}
            or instance in "".join(str(line) for line in one["Notes"] or ())
        ]

    def _files(self, node: str) -> list[str]:
        folder = self._settings.hosts[node].folder
        where = f"Drive = '{folder[:2]}' AND Path = '" + (folder[2:] + "\\").replace("\\", "\\\\") + "'"
        found = self._links[node].query(f"SELECT * FROM CIM_DataFile WHERE {where}", CIMV2)
        return [names.split(str(one["Name"]))[1].lower() for one in found]

    def _service(self, link: Link) -> Reference:
        return link.query(f"SELECT * FROM {_SERVICE}")[0].reference

    def _wait(self, link: Link, guid: str, state: int | None) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            found = [
                one["EnabledState"] for one in link.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name = '{guid}'")
            ]
            if found == ([] if state is None else [state]):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"machine {guid} is in {found}, expected {state}")
            time.sleep(0.05)


_SEEN = {
    "Msvm_ProcessorSettingData": ("VirtualQuantity",),
    "Msvm_MemorySettingData": ("VirtualQuantity", "Limit", "Reservation", "DynamicMemoryEnabled"),
    "Msvm_ResourceAllocationSettingData": ("ResourceSubType", "AddressOnParent"),
    "Msvm_StorageAllocationSettingData": ("ResourceSubType", "HostResource"),
    "Msvm_SyntheticEthernetPortSettingData": ("Address",),
    "Msvm_EthernetPortAllocationSettingData": ("ResourceSubType",),
    "Msvm_EthernetSwitchPortVlanSettingData": ("AccessVlanId",),
}
"""What is compared of each device; ids and paths with ids in them differ between two machines."""


def _text(name: str, value: object) -> str:
    return msvm.mac_of(str(value)) if name == "Address" else str(value)


def _without(part: Sequence[str], own: Sequence[str]) -> list[str]:
    """For an order that does not depend on what two machines are called."""
    texts = list(part)
    for name in own:
        texts = [text.replace(name, "~") for text in texts]
    return texts


def _note(settings: Instance) -> dict[str, Any]:
    """Our note without what differs between two runs of the same thing, and the lines of others."""
    note = notes.read(settings["Notes"])
    others = [line for line in notes.lines_of(settings["Notes"]) if not line.startswith(notes.PREFIX)]
    if note is None:
        return {"others": others}
    fields = {name: getattr(note, name) for name in note.__struct_fields__ if name != "known"}
    return fields | {"stage": str(note.stage), "captured": note.captured.partition(" ")[0], "others": others}
