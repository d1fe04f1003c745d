"""What a driver can do, declared as data: flags from a closed list, and limits."""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec


class Capability(enum.StrEnum):
    """The closed list of flags; an operation, a boot source or a mode may ask for one."""

    BOOT_IMAGE = "boot_image"
    BOOT_TEMPLATE = "boot_template"
    BOOT_VOLUME = "boot_volume"
    BOOT_KERNEL = "boot_kernel"
    UEFI = "uefi"
    DATA_DISKS = "data_disks"
    INTERFACES = "interfaces"
    USER_DATA = "user_data"
    RESIZE = "resize"
    GRACEFUL_POWER_OFF = "graceful_power_off"
    REBOOT = "reboot"
    SOFT_REBOOT = "soft_reboot"
    PAUSE = "pause"
    SUSPEND = "suspend"
    CONSOLE_OUTPUT = "console_output"


MEANING: dict[Capability, str] = {
    Capability.BOOT_IMAGE: "create boots from a disk image given by URL, checksum and format",
    Capability.BOOT_TEMPLATE: "create clones a template that the hypervisor keeps",
    Capability.BOOT_VOLUME: "create boots from a volume that exists",
    Capability.BOOT_KERNEL: "create boots a kernel and initial RAM disk directly",
    Capability.UEFI: "instances may have UEFI firmware",
    Capability.DATA_DISKS: "create makes blank data disks beside the root disk",
    Capability.INTERFACES: "create connects network interfaces",
    Capability.USER_DATA: "user data and SSH keys reach the guest's cloud-init",
    Capability.RESIZE: "processors and memory of a stopped instance can be changed",
    Capability.GRACEFUL_POWER_OFF: "power_off can ask the guest to shut down",
    Capability.REBOOT: "an instance can be reset",
    Capability.SOFT_REBOOT: "reboot can ask the guest to restart",
    Capability.PAUSE: "processors can be halted and continued, memory kept",
    Capability.SUSPEND: "memory can be saved to storage and restored",
    Capability.CONSOLE_OUTPUT: "what the guest printed on its serial console can be read",
}
"""One sentence for each flag."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest values that a driver takes; None means that only the hypervisor's own limits apply."""

    max_vcpus: int | None = None
    max_memory_bytes: int | None = None
    max_data_disks: int | None = None
    max_interfaces: int | None = None
    max_console_bytes: int | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """A driver's declaration."""

    flags: frozenset[Capability]
    limits: Limits = Limits()


class NeedsCapability:
    """Mixed into a request's part whose mere presence asks for a capability."""

    __slots__ = ()
    capability: ClassVar[Capability]
