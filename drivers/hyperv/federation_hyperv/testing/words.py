"""Names and numbers that Hyper-V gives its parts, in one place for the simulated hosts.

Sources: the Remarks of Msvm_ResourceAllocationSettingData (types and subtypes), Msvm_ComputerSystem (states).
"""

from __future__ import annotations

import enum

REALIZED = "Microsoft:Hyper-V:System:Realized"
SNAPSHOT = "Microsoft:Hyper-V:Snapshot:Realized"
GENERATION_1 = "Microsoft:Hyper-V:SubType:1"
GENERATION_2 = "Microsoft:Hyper-V:SubType:2"
HOST_DESCRIPTION = "Microsoft Hosting Computer System"
MACHINE_DESCRIPTION = "Microsoft Virtual Machine"

MEMORY = "Microsoft:Hyper-V:Memory"
PROCESSOR = "Microsoft:Hyper-V:Processor"
SCSI = "Microsoft:Hyper-V:Synthetic SCSI Controller"
IDE = "Microsoft:Hyper-V:Emulated IDE Controller"
DISK_DRIVE = "Microsoft:Hyper-V:Synthetic Disk Drive"
DVD_DRIVE = "Microsoft:Hyper-V:Synthetic DVD Drive"
PHYSICAL_DRIVE = "Microsoft:Hyper-V:Physical Disk Drive"
HARD_DISK = "Microsoft:Hyper-V:Virtual Hard Disk"
DVD_DISK = "Microsoft:Hyper-V:Virtual CD/DVD Disk"
NETWORK_ADAPTER = "Microsoft:Hyper-V:Synthetic Ethernet Port"
LEGACY_ADAPTER = "Microsoft:Hyper-V:Emulated Ethernet Port"
CONNECTION = "Microsoft:Hyper-V:Ethernet Connection"
SERIAL = "Microsoft:Hyper-V:Serial Port"
DISPLAY = "Microsoft:Hyper-V:Synthetic Display Controller"

RESOURCE_TYPES = {
    MEMORY: 4, PROCESSOR: 3, SCSI: 6, IDE: 5, DISK_DRIVE: 17, DVD_DRIVE: 16, PHYSICAL_DRIVE: 17, HARD_DISK: 31,
    DVD_DISK: 31, NETWORK_ADAPTER: 10, LEGACY_ADAPTER: 10, CONNECTION: 33, SERIAL: 21, DISPLAY: 24,
}  # fmt: skip

MEMORY_GUID = "4764334d-e001-4176-82ee-5594ec9b530e"
PROCESSOR_GUID = "b637f346-6a0e-4dec-af52-bd70cb80a21d"
SCSI_SLOTS = 64
IDE_SLOTS = 2


class State(enum.IntEnum):
    """`EnabledState` of Msvm_ComputerSystem."""

    RUNNING = 2
    OFF = 3
    STOPPING = 4
    SAVED = 6
    PAUSED = 9
    STARTING = 10


class Request(enum.IntEnum):
    """`RequestedState` of Msvm_ComputerSystem.RequestStateChange."""

    ENABLED = 2
    DISABLED = 3
    SHUT_DOWN = 4
    OFFLINE = 6
    QUIESCE = 9
    REBOOT = 10
    RESET = 11


# What RequestStateChange leads to from which state; what is not here returns 32775 (invalid state).
TRANSITIONS: dict[tuple[int, int], State] = {
    (State.OFF, Request.ENABLED): State.RUNNING,
    (State.SAVED, Request.ENABLED): State.RUNNING,
    (State.PAUSED, Request.ENABLED): State.RUNNING,
    (State.RUNNING, Request.DISABLED): State.OFF,
    (State.PAUSED, Request.DISABLED): State.OFF,
    (State.SAVED, Request.DISABLED): State.OFF,
    (State.RUNNING, Request.SHUT_DOWN): State.OFF,
    (State.RUNNING, Request.OFFLINE): State.SAVED,
    (State.PAUSED, Request.OFFLINE): State.SAVED,
    (State.RUNNING, Request.QUIESCE): State.PAUSED,
    (State.RUNNING, Request.RESET): State.RUNNING,
    (State.PAUSED, Request.RESET): State.RUNNING,
    (State.RUNNING, Request.REBOOT): State.RUNNING,
}
