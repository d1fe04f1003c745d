"""Virtual hardware as vSphere is told of it.  Pure: it builds pyVmomi's data objects and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyVmomi import vim

from federation.contract.errors import InvalidRequest, NotSupported
from federation.contract.instances import Firmware, Flavour
from federation_vmware import facts
from federation_vmware.places import Place
from federation_vmware.settings import DiskController

_KIB, _MIB = 1 << 10, 1 << 20
_RESERVED_UNIT = 7
"""SCSI: the controller's own place on its bus."""
UNITS = 16
NEW_CONTROLLER = -100
MAX_DISKS = 15
MAX_INTERFACES = 10
_Change = vim.vm.device.VirtualDeviceSpec


def flavour(wanted: Flavour, *, firmware: bool) -> dict[str, Any]:
    """Processors, memory and, for a machine that is being made, firmware."""
    shape: dict[str, Any] = {"numCPUs": wanted.vcpus, "memoryMB": wanted.memory_bytes // _MIB}
    if wanted.topology is not None:
        if wanted.topology.threads != 1:
            raise NotSupported(
                f"topology has {wanted.topology.threads} threads for each core; vSphere shows the guest cores only",
                field="flavour.topology.threads",
                expected=1,
            )
        shape["numCoresPerSocket"] = wanted.topology.cores
    if firmware:
        shape["firmware"] = "efi" if wanted.firmware is Firmware.UEFI else "bios"
    return shape


def hot_add(wanted: bool) -> dict[str, Any]:  # noqa: FBT001 - a setting's value
    """That it can be given more while it runs; what a template says of itself stays unless it is wanted."""
    return {"cpuHotAddEnabled": True, "memoryHotAddEnabled": True} if wanted else {}


def controller(kind: DiskController) -> Any:
    """A SCSI controller for a new machine."""
    kinds = {
        DiskController.PVSCSI: vim.vm.device.ParaVirtualSCSIController,
        DiskController.LSILOGIC: vim.vm.device.VirtualLsiLogicController,
    }
    device = kinds[kind](key=NEW_CONTROLLER, busNumber=0, sharedBus="noSharing")
    return _Change(operation="add", device=device)


def disk_place(devices: Iterable[Any], *, new_controller: bool) -> tuple[int, list[int]]:
    """The SCSI controller for another disk, and the units that are free on it; InvalidRequest when there are none."""
    if new_controller:
        return NEW_CONTROLLER, [unit for unit in range(UNITS) if unit != _RESERVED_UNIT]
    known = list(devices)
    for one in known:
        if isinstance(one, vim.vm.device.VirtualSCSIController):
            taken = {disk.unitNumber for disk in known if disk.controllerKey == one.key} | {_RESERVED_UNIT}
            free = [unit for unit in range(UNITS) if unit not in taken]
            if free:
                return int(one.key), free
    raise InvalidRequest("the machine has no free place for another disk on its SCSI controllers", limit=MAX_DISKS)


def new_disk(key: int, place: tuple[int, int], size_bytes: int, path: str) -> Any:
    """A blank, thin disk; ``path`` is a file, or ``[datastore]`` to let vSphere name it."""
    return _Change(operation="add", fileOperation="create", device=_disk(key, place, size_bytes, path))


def existing_disk(key: int, place: tuple[int, int], size_bytes: int, path: str) -> Any:
    """A disk that exists; vSphere knows its size, what is given here is for servers that believe it."""
    return _Change(operation="add", device=_disk(key, place, size_bytes, path))


def resized_disk(disk: Any, size_bytes: int) -> Any:
    """The same disk, larger."""
    grown = vim.vm.device.VirtualDisk(
        key=disk.key,
        controllerKey=disk.controllerKey,
        unitNumber=disk.unitNumber,
        backing=disk.backing,
        capacityInKB=size_bytes // _KIB,
        capacityInBytes=size_bytes,
        deviceInfo=disk.deviceInfo,
    )
    return _Change(operation="edit", device=grown)


def removed(device: Any, *, destroy: bool = False) -> Any:
    """A device taken away; ``destroy`` takes a disk's file along."""
    return _Change(operation="remove", fileOperation="destroy" if destroy else None, device=device)


def card(key: int, network: Place, mac: str) -> Any:
    """A network card on a standard or distributed port group."""
    if "key" in network.found:
        port = vim.dvs.PortConnection(portgroupKey=network.found["key"], switchUuid=network.found["switch"])
        backing = vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)
    else:
        backing = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=network.name)
    device = vim.vm.device.VirtualVmxnet3(
        key=key,
        backing=backing,
        addressType="manual",
        macAddress=mac,
        wakeOnLanEnabled=False,
        connectable=vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=True, allowGuestControl=True, connected=True
        ),
    )
    return _Change(operation="add", device=device)


def root_disk(devices: Iterable[Any]) -> Any:
    """The disk that a machine starts from: the first; None when it has none."""
    found = facts.disks(devices)
    return found[0] if found else None


def _disk(key: int, place: tuple[int, int], size_bytes: int, path: str) -> Any:
    controller_key, unit = place
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=path, diskMode="persistent", thinProvisioned=True)
    return vim.vm.device.VirtualDisk(
        key=key,
        controllerKey=controller_key,
        unitNumber=unit,
        backing=backing,
        capacityInKB=size_bytes // _KIB,
        capacityInBytes=size_bytes,
    )
