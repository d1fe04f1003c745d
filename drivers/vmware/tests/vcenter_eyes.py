"""The kit's own eyes and hands on vCenter: pyVmomi, and nothing of the driver."""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyVmomi import SoapStubAdapter, vim, vmodl

NOTE = re.compile(r"^(federation|guestinfo)\.")


class VCenterEyes:
    """Looks at machines, their files and their snapshots."""

    def __init__(self, settings: Any, cluster: str, _more: Mapping[str, str]) -> None:
        self._cluster = cluster
        context = ssl.create_default_context(cafile=settings.ca_file)
        stub = SoapStubAdapter(
            host=settings.host, port=settings.port, path="/sdk", version="vim.version.version11", sslContext=context
        )
        self._content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        self._content.sessionManager.Login(settings.username, Path(settings.password_file).read_text(), None)
        self._datacenter = self._content.rootFolder.childEntity[0]

    def look(self, instance: str, stored: Sequence[str] = ()) -> Mapping[str, Any] | None:
        """The machine as vCenter keeps it, volumes and templates; None when there is none of it."""
        machine, kept = self._find(instance), self._stored(stored)
        try:
            seen = None if machine is None else self._seen(machine)
        except vmodl.fault.ManagedObjectNotFound:
            seen = None
        return None if seen is None and not kept else {"machine": seen, "stored": kept}

    def _stored(self, names: Sequence[str]) -> list[str]:
        """Volumes and templates of these names."""
        found = [
            f"template {one.config.template}" for one in self._datacenter.vmFolder.childEntity if one.name in names
        ]
        for datastore in self._datacenter.datastore:
            for name in names:
                found += sorted(path.name for path in Path(datastore.summary.url).glob(f"federation-volumes/{name}*"))
        return found

    def changes(self, _operation: str) -> int | None:
        """The simulator's log does not name operations."""
        return None

    def plant_template(self, name: str) -> None:
        """A template with one small disk and a snapshot for linked clones."""
        controller = vim.vm.device.ParaVirtualSCSIController(key=-100, busNumber=0, sharedBus="noSharing")
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent")
        disk = vim.vm.device.VirtualDisk(
            key=-101, controllerKey=-100, unitNumber=0, backing=backing, capacityInKB=16384, capacityInBytes=16 << 20
        )
        add = vim.vm.device.VirtualDeviceSpec
        devices = [
            add(operation="add", device=controller),
            add(operation="add", fileOperation="create", device=disk),
        ]
        cluster = self._datacenter.hostFolder.childEntity[0]
        template = self._make(name, str(uuid.uuid4()), cluster.host[0].name, devices)
        template.CreateSnapshot_Task("base", "", memory=False, quiesce=False)
        template.MarkAsTemplate()

    def define_attributes(self) -> None:
        """The driver's custom attributes, which it defines itself where its account may and they are missing."""
        manager = self._content.customFieldsManager
        manager.AddCustomFieldDef("federation.reverted", vim.VirtualMachine)
        manager.AddCustomFieldDef("federation.maintenance", vim.HostSystem)

    def plant_foreign(self, node: str) -> str | None:
        """A running machine of somebody else."""
        identity = str(uuid.uuid4())
        self._make(f"foreign-{identity[:8]}", identity, node, []).PowerOnVM_Task()
        return identity

    def _make(self, name: str, identity: str, node: str, devices: list[Any]) -> Any:
        datastore = min(self._datacenter.datastore, key=lambda one: one.name)
        spec = vim.vm.ConfigSpec(
            name=name,
            guestId="otherGuest64",
            numCPUs=1,
            memoryMB=64,
            instanceUuid=identity,
            files=vim.vm.FileInfo(vmPathName=f"[{datastore.name}]"),
            deviceChange=devices,
        )
        cluster = self._datacenter.hostFolder.childEntity[0]
        host = next(one for one in cluster.host if one.name == node)
        task = self._datacenter.vmFolder.CreateVM_Task(spec, cluster.resourcePool, host)
        return task.info.result

    def remove_foreign(self, machine: str) -> None:
        """Its owner removes it."""
        self._remove(self._find(machine))

    def discard(self, name: str) -> None:
        """Templates and volumes of that name."""
        for one in self._datacenter.vmFolder.childEntity:
            if one.name == name:
                self._remove(one)
        for datastore in self._datacenter.datastore:
            for path in Path(datastore.summary.url).glob(f"federation-volumes/{name}*.vmdk"):
                path.unlink()

    def close(self) -> None:
        """Log out."""
        self._content.sessionManager.Logout()

    def _find(self, instance: str) -> Any:
        return self._content.searchIndex.FindByUuid(None, instance, vmSearch=True, instanceUuid=True)

    def _seen(self, machine: Any) -> dict[str, Any]:
        hardware = machine.config.hardware
        notes = {one.key: one.value for one in machine.config.extraConfig if NOTE.match(one.key)}
        collected = self._properties(machine, ["snapshot"])
        # When a machine was started is no part of what it is; the note of a reboot holds it.
        plain = {
            key: re.sub(r'"booted":"[^"]*"', "", _readable(key, str(value))) for key, value in notes.items() if value
        }
        return {
            "name": machine.name,
            "state": str(machine.runtime.powerState),
            "node": machine.runtime.host.name,
            "vcpus": hardware.numCPU,
            "memory": hardware.memoryMB,
            "firmware": machine.config.firmware,
            # Not by their files: the simulator lets a clone and its origin share the device, name and all.
            "disks": [one.capacityInKB for one in hardware.device if isinstance(one, vim.vm.device.VirtualDisk)],
            "cards": sorted(one.macAddress for one in hardware.device if hasattr(one, "macAddress")),
            "notes": dict(sorted(plain.items())),
            "snapshots": [(tree.name, tree.description) for tree in _trees(collected.get("snapshot"))],
        }

    def _properties(self, machine: Any, paths: list[str]) -> dict[str, Any]:
        """As the property collector says it: the simulator cannot be asked for a property that is not set."""
        query = vmodl.query.PropertyCollector
        spec = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=machine)],
            propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=paths, all=False)],
        )
        found = self._content.propertyCollector.RetrievePropertiesEx([spec], query.RetrieveOptions())
        return {part.name: part.val for part in found.objects[0].propSet}

    @staticmethod
    def _remove(machine: Any) -> None:
        if machine is None:
            return
        with contextlib.suppress(vmodl.fault.ManagedObjectNotFound):
            if machine.runtime.powerState == "poweredOn":
                machine.PowerOffVM_Task()
            machine.Destroy_Task()


def _readable(key: str, value: str) -> str:
    """What is encoded hides the ids that differ between two machines."""
    return base64.b64decode(value).decode() if key in {"guestinfo.metadata", "guestinfo.userdata"} else value


def _trees(info: Any) -> list[Any]:
    found, waiting = [], list(info.rootSnapshotList) if info else []
    while waiting:
        tree = waiting.pop(0)
        found.append(tree)
        waiting += tree.childSnapshotList or ()
    return found
