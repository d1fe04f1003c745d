"""Which method of which class is answered by what; a published method that is not here returns 32770 (not supported)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from federation_hyperv.cim import Instance
from federation_hyperv.cim.codes import ReturnCode
from federation_hyperv.testing import checkpoints, disks, machines, migration, power, resources, summary
from federation_hyperv.testing.host import Refused, SimulatedHost

Provider = Callable[[SimulatedHost, Instance, dict[str, Any]], dict[str, Any]]

_MANAGEMENT, _SNAPSHOTS = "Msvm_VirtualSystemManagementService", "Msvm_VirtualSystemSnapshotService"
_IMAGES, _MIGRATION = "Msvm_ImageManagementService", "Msvm_VirtualSystemMigrationService"

METHODS: dict[tuple[str, str], Provider] = {
    ("Msvm_ComputerSystem", "RequestStateChange"): power.request_state,
    ("Msvm_ConcreteJob", "RequestStateChange"): power.request_job_state,
    ("Msvm_MigrationJob", "RequestStateChange"): power.request_job_state,
    ("Msvm_StorageJob", "RequestStateChange"): power.request_job_state,
    ("Msvm_ShutdownComponent", "InitiateShutdown"): power.initiate_shutdown,
    ("Msvm_ShutdownComponent", "InitiateReboot"): power.initiate_reboot,
    ("Msvm_Keyboard", "PressKey"): power.strike("press_key"),
    ("Msvm_Keyboard", "ReleaseKey"): power.strike("release_key"),
    ("Msvm_Keyboard", "TypeKey"): power.strike("type_key"),
    ("Msvm_Keyboard", "TypeText"): power.strike("type_text"),
    ("Msvm_Keyboard", "TypeCtrlAltDel"): power.strike("type_ctrl_alt_del"),
    (_MANAGEMENT, "DefineSystem"): machines.define_system,
    (_MANAGEMENT, "ModifySystemSettings"): machines.modify_system,
    (_MANAGEMENT, "DestroySystem"): machines.destroy_system,
    (_MANAGEMENT, "AddResourceSettings"): resources.add_resources,
    (_MANAGEMENT, "ModifyResourceSettings"): resources.modify_resources,
    (_MANAGEMENT, "RemoveResourceSettings"): resources.remove_resources,
    (_MANAGEMENT, "AddFeatureSettings"): resources.add_features,
    (_MANAGEMENT, "ModifyFeatureSettings"): resources.modify_features,
    (_MANAGEMENT, "RemoveFeatureSettings"): resources.remove_features,
    (_MANAGEMENT, "GetSummaryInformation"): summary.get_summary,
    (_MANAGEMENT, "ExportSystemDefinition"): migration.export,
    (_SNAPSHOTS, "CreateSnapshot"): checkpoints.create,
    (_SNAPSHOTS, "ApplySnapshot"): checkpoints.apply,
    (_SNAPSHOTS, "DestroySnapshot"): checkpoints.destroy,
    (_MIGRATION, "MigrateVirtualSystemToHost"): migration.migrate,
    (_MIGRATION, "CheckVirtualSystemIsMigratableToHost"): migration.check,
    (_IMAGES, "CreateVirtualHardDisk"): disks.create,
    (_IMAGES, "ResizeVirtualHardDisk"): disks.resize,
    (_IMAGES, "ConvertVirtualHardDisk"): disks.convert,
    (_IMAGES, "MergeVirtualHardDisk"): disks.merge,
    (_IMAGES, "ValidateVirtualHardDisk"): disks.validate,
    (_IMAGES, "GetVirtualHardDiskSettingData"): disks.setting_data,
    (_IMAGES, "GetVirtualHardDiskState"): disks.state,
    ("CIM_DataFile", "Delete"): disks.delete_file,
    ("CIM_DataFile", "Copy"): disks.copy_file,
    ("CIM_DataFile", "Rename"): disks.rename_file,
    ("Win32_Directory", "Delete"): disks.delete_file,
}


def call(host: SimulatedHost, target: Instance, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a method; a refusal is its ReturnValue."""
    provider = METHODS.get((target.class_name, method))
    if provider is None:
        return {"ReturnValue": ReturnCode.V2_NOT_SUPPORTED}
    try:
        return provider(host, target, arguments)
    except Refused as refusal:
        return {"ReturnValue": refusal.code}
