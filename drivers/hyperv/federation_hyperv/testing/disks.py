"""Virtual hard disk files: Msvm_ImageManagementService, and files through CIM_DataFile and Win32_Directory."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

from federation_hyperv.cim import Instance
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.cim.embedded import write_embedded
from federation_hyperv.testing import vhdx
from federation_hyperv.testing.files import BadPath
from federation_hyperv.testing.host import Refused, SimulatedHost
from federation_hyperv.testing.jobs import JobError
from federation_hyperv.testing.parameters import embedded

Arguments = dict[str, Any]
_VHDX_FORMAT = 3
_EXISTS, _MISSING, _IN_USE, _INVALID = 80, 2, 32, 87


def create(host: SimulatedHost, service: Instance, arguments: Arguments) -> Arguments:
    """CreateVirtualHardDisk: a job that ends with 80 when the file is there already, as ERROR_FILE_EXISTS."""
    asked = embedded(arguments.get("VirtualDiskSettingData"), "Msvm_VirtualHardDiskSettingData")
    path = str(asked["Path"] or "")
    if asked["Type"] not in {vhdx.FIXED, vhdx.DYNAMIC, vhdx.DIFFERENCING} or asked["Format"] != _VHDX_FORMAT:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)
    place = _place(host, path)

    def finish() -> None:
        if place.exists():
            raise JobError(_EXISTS, f"The file '{path}' exists.")
        _write(host, place, asked)
        host.record(f"node:{host.name}", "create_disk", path, size=asked["MaxInternalSize"], type=asked["Type"])

    return _job(host, service, "Create Virtual Hard Disk", finish, path, partial=lambda: _half_written(place))


def _half_written(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"vhdxfile")


def _write(host: SimulatedHost, place: Path, asked: Instance) -> None:
    kind, size = int(asked["Type"]), int(asked["MaxInternalSize"] or 0)
    parent_path, parent_identifier = "", ""
    if kind == vhdx.DIFFERENCING:
        parent_path = str(asked["ParentPath"] or "")
        parent = _read(host, parent_path)
        parent_identifier = parent.identifier
        size = size or parent.size_bytes
    try:
        vhdx.write_vhdx(place, vhdx.DiskFacts(
            kind=kind, size_bytes=size, block_bytes=asked["BlockSize"] or 32 << 20,
            logical_sector=asked["LogicalSectorSize"] or 512, physical_sector=asked["PhysicalSectorSize"] or 4096,
            parent_path=parent_path, parent_identifier=parent_identifier,
        ))  # fmt: skip
    except vhdx.BadDisk as error:
        raise JobError(_INVALID, str(error)) from error


def resize(host: SimulatedHost, service: Instance, arguments: Arguments) -> Arguments:
    """ResizeVirtualHardDisk: grows; a differencing disk or one with children is refused by the job."""
    path, size = str(arguments.get("Path") or ""), arguments.get("MaxInternalSize")
    place = _place(host, path)
    if not isinstance(size, int):
        raise Refused(ReturnCode.V2_INVALID_PARAMETER)

    def finish() -> None:
        _read(host, path)
        try:
            vhdx.resize_vhdx(place, size)
        except vhdx.BadDisk as error:
            raise JobError(_INVALID, str(error)) from error
        host.record(f"node:{host.name}", "resize_disk", path, size=size)

    return _job(host, service, "Resize Virtual Hard Disk", finish, path)


def convert(host: SimulatedHost, service: Instance, arguments: Arguments) -> Arguments:
    """ConvertVirtualHardDisk: a new disk with what the source and its parents hold."""
    source = str(arguments.get("SourcePath") or "")
    asked = embedded(arguments.get("VirtualDiskSettingData"), "Msvm_VirtualHardDiskSettingData")
    path = str(asked["Path"] or "")
    place = _place(host, path)

    def finish() -> None:
        facts = _read(host, source)
        if place.exists():
            raise JobError(_EXISTS, f"The file '{path}' exists.")
        kind = int(asked["Type"] or vhdx.DYNAMIC)
        if kind == facts.kind == vhdx.DYNAMIC:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_place(host, source), place)
        else:
            vhdx.write_vhdx(place, vhdx.DiskFacts(kind=kind, size_bytes=facts.size_bytes))
        host.record(f"node:{host.name}", "convert_disk", path, source=source)

    return _job(host, service, "Convert Virtual Hard Disk", finish, path)


def merge(host: SimulatedHost, service: Instance, arguments: Arguments) -> Arguments:
    """MergeVirtualHardDisk: the child goes into its parent and is gone."""
    source, target = str(arguments.get("SourcePath") or ""), str(arguments.get("DestinationPath") or "")
    place = _place(host, source)

    def finish() -> None:
        facts = _read(host, source)
        _read(host, target)
        if facts.parent_path.lower() != target.lower():
            raise JobError(_INVALID, f"'{target}' is not the parent of '{source}'.")
        place.unlink()
        host.record(f"node:{host.name}", "merge_disk", target, source=source)

    return _job(host, service, "Merge Virtual Hard Disk", finish, source)


def validate(host: SimulatedHost, service: Instance, arguments: Arguments) -> Arguments:
    """ValidateVirtualHardDisk: a job that fails when the file, or its parent, is no disk."""
    path = str(arguments.get("Path") or "")
    _place(host, path)

    def finish() -> None:
        facts = _read(host, path)
        if facts.parent_path:
            _read(host, facts.parent_path)

    return _job(host, service, "Validate Virtual Hard Disk", finish, path)


def setting_data(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """GetVirtualHardDiskSettingData: what the file says, as an embedded instance."""
    path = str(arguments.get("Path") or "")
    facts = _facts(host, path)
    found = Instance("Msvm_VirtualHardDiskSettingData", {
        "InstanceID": f"Microsoft:{path}", "Path": path, "Type": facts.kind, "Format": _VHDX_FORMAT,
        "MaxInternalSize": facts.size_bytes, "BlockSize": facts.block_bytes, "ParentPath": facts.parent_path,
        "ParentIdentifier": facts.parent_identifier, "LogicalSectorSize": facts.logical_sector,
        "PhysicalSectorSize": facts.physical_sector, "VirtualDiskId": facts.identifier,
    })  # fmt: skip
    return {"SettingData": write_embedded(found), "ReturnValue": ReturnCode.COMPLETED}


def state(host: SimulatedHost, _service: Instance, arguments: Arguments) -> Arguments:
    """GetVirtualHardDiskState: how large the file is and whether a machine has it open."""
    path = str(arguments.get("Path") or "")
    _facts(host, path)
    place = _place(host, path)
    found = Instance("Msvm_VirtualHardDiskState", {
        "FileSize": place.stat().st_size, "InUse": _is_open(host, path), "MinInternalSize": 0, "Alignment": 0,
        "PhysicalSectorSize": 4096, "FragmentationPercentage": 0,
        "Timestamp": dt.datetime.fromtimestamp(place.stat().st_mtime, dt.UTC),
    })  # fmt: skip
    return {"State": write_embedded(found), "ReturnValue": ReturnCode.COMPLETED}


def delete_file(host: SimulatedHost, file: Instance, _arguments: Arguments) -> Arguments:
    """Delete of CIM_DataFile (2: access denied while a machine has it open) and of Win32_Directory."""
    path = str(file["Name"])
    if _is_open(host, path):
        return {"ReturnValue": 2}
    host.files.remove(path)
    host.record(f"node:{host.name}", "delete_file", path)
    return {"ReturnValue": 0}


def copy_file(host: SimulatedHost, file: Instance, arguments: Arguments) -> Arguments:
    """Copy of CIM_DataFile: 10 when the target exists."""
    return _moved(host, file, arguments, "copy_file")


def rename_file(host: SimulatedHost, file: Instance, arguments: Arguments) -> Arguments:
    """Rename of CIM_DataFile: 10 when the target exists."""
    return _moved(host, file, arguments, "rename_file")


def _moved(host: SimulatedHost, file: Instance, arguments: Arguments, kind: str) -> Arguments:
    source, target = _place(host, str(file["Name"])), _place(host, str(arguments.get("FileName") or ""))
    if target.exists():
        return {"ReturnValue": 10}
    if not target.parent.is_dir():
        return {"ReturnValue": 9}
    if kind == "copy_file":
        shutil.copyfile(source, target)
    else:
        source.rename(target)
    host.record(f"node:{host.name}", kind, str(arguments["FileName"]), source=str(file["Name"]))
    return {"ReturnValue": 0}


def _is_open(host: SimulatedHost, path: str) -> bool:
    for machine in host.machines():
        if not host.is_running(machine):
            continue
        for disk in host.resources(host.settings_of(machine), "Msvm_StorageAllocationSettingData"):
            if path.lower() in {item.lower() for item in disk["HostResource"] or []}:
                return True
    return False


def _facts(host: SimulatedHost, path: str) -> vhdx.DiskFacts:
    try:
        return _read(host, path)
    except JobError as error:
        code = ReturnCode.FILE_NOT_FOUND if error.code == _MISSING else ReturnCode.V2_INVALID_PARAMETER
        raise Refused(code) from error


def _read(host: SimulatedHost, path: str) -> vhdx.DiskFacts:
    try:
        return vhdx.read_vhdx(_place(host, path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise JobError(_MISSING, f"The system cannot find the file specified: '{path}'.") from error
    except vhdx.BadDisk as error:
        raise JobError(_INVALID, f"The file or directory is corrupted and unreadable: '{path}'.") from error


def _place(host: SimulatedHost, path: str) -> Path:
    try:
        return host.files.place(path)
    except BadPath as error:
        raise Refused(ReturnCode.V2_INVALID_PARAMETER) from error


def _job(
    host: SimulatedHost, service: Instance, caption: str, finish: Any, path: str, partial: Any = None
) -> Arguments:
    job = host.start_job("Msvm_StorageJob", caption, service, finish, partial=partial)
    job["Child"] = path
    return {"Job": job.reference, "ReturnValue": ReturnCode.JOB_STARTED}
