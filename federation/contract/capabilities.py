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
    CPU_TOPOLOGY = "cpu_topology"
    LINKED_TEMPLATES = "linked_templates"
    READ_ONLY_VOLUMES = "read_only_volumes"
    RESIZE = "resize"
    GRACEFUL_POWER_OFF = "graceful_power_off"
    REBOOT = "reboot"
    SOFT_REBOOT = "soft_reboot"
    PAUSE = "pause"
    SUSPEND = "suspend"
    CONSOLE_OUTPUT = "console_output"
    NODE_MAINTENANCE = "node_maintenance"
    ADOPT = "adopt"
    VOLUMES = "volumes"
    NEW_VOLUMES = "new_volumes"
    EXTEND_VOLUME = "extend_volume"
    HOT_INTERFACES = "hot_interfaces"
    VLAN = "vlan"
    SNAPSHOTS = "snapshots"
    MEMORY_SNAPSHOTS = "memory_snapshots"
    QUIESCED_SNAPSHOTS = "quiesced_snapshots"
    CAPTURE_TEMPLATE = "capture_template"
    CAPTURE_UPLOAD = "capture_upload"
    LIVE_MIGRATION = "live_migration"
    COLD_MIGRATION = "cold_migration"
    CONSOLE_VNC = "console_vnc"
    CONSOLE_SPICE = "console_spice"
    CONSOLE_RDP = "console_rdp"
    CONSOLE_WEBMKS = "console_webmks"
    CONSOLE_SERIAL = "console_serial"
    ADMIN_PASSWORD = "admin_password"  # noqa: S105 (the name of a flag)
    NMI = "nmi"
    METRICS = "metrics"
    HOT_RESIZE = "hot_resize"


MEANING: dict[Capability, str] = {
    Capability.BOOT_IMAGE: "create boots from a disk image given by URL, checksum and format",
    Capability.BOOT_TEMPLATE: "create clones a template that the hypervisor keeps",
    Capability.BOOT_VOLUME: "create boots from a volume that exists",
    Capability.BOOT_KERNEL: "create boots a kernel and initial RAM disk directly",
    Capability.UEFI: "instances may have UEFI firmware",
    Capability.DATA_DISKS: "create makes blank data disks beside the root disk",
    Capability.INTERFACES: "create connects network interfaces",
    Capability.USER_DATA: "user data and SSH keys reach the guest's cloud-init",
    Capability.CPU_TOPOLOGY: "a flavour may say how the guest sees its processors",
    Capability.LINKED_TEMPLATES: "a clone of a template may share its unchanged blocks",
    Capability.READ_ONLY_VOLUMES: "a volume may be attached for reading only",
    Capability.RESIZE: "processors and memory of a stopped instance can be changed",
    Capability.GRACEFUL_POWER_OFF: "power_off can ask the guest to shut down",
    Capability.REBOOT: "an instance can be reset",
    Capability.SOFT_REBOOT: "reboot can ask the guest to restart",
    Capability.PAUSE: "processors can be halted and continued, memory kept",
    Capability.SUSPEND: "memory can be saved to storage and restored",
    Capability.CONSOLE_OUTPUT: "what the guest printed on its serial console can be read",
    Capability.NODE_MAINTENANCE: "a node can be told to take no new instances",
    Capability.ADOPT: "a machine that exists can be taken over without restarting it",
    Capability.VOLUMES: "volumes that exist can be attached to an instance and detached from it",
    Capability.NEW_VOLUMES: "blank volumes can be made when they are attached, and removed when they are detached",
    Capability.EXTEND_VOLUME: "an attached volume can be made larger",
    Capability.HOT_INTERFACES: "network interfaces can be added to and taken from an instance, also a running one",
    Capability.VLAN: "an interface may carry a VLAN id",
    Capability.SNAPSHOTS: "disks of an instance can be kept as they are, and brought back",
    Capability.MEMORY_SNAPSHOTS: "a snapshot of a running instance may hold its memory",
    Capability.QUIESCED_SNAPSHOTS: "the guest's file systems can be frozen while a snapshot is taken",
    Capability.CAPTURE_TEMPLATE: "capture_image makes a template that create can clone",
    Capability.CAPTURE_UPLOAD: "capture_image writes an image file to a URL",
    Capability.LIVE_MIGRATION: "a running instance can move to another node without stopping",
    Capability.COLD_MIGRATION: "a stopped instance can move to another node",
    Capability.CONSOLE_VNC: "the graphical console can be reached by VNC",
    Capability.CONSOLE_SPICE: "the graphical console can be reached by SPICE",
    Capability.CONSOLE_RDP: "the graphical console can be reached by RDP",
    Capability.CONSOLE_WEBMKS: "the graphical console can be reached by WebMKS",
    Capability.CONSOLE_SERIAL: "the serial console can be reached",
    Capability.ADMIN_PASSWORD: "the password of an account in the guest can be set",
    Capability.NMI: "a non-maskable interrupt can be sent to the guest",
    Capability.METRICS: "counters of processors, memory, disks and interfaces can be read",
    Capability.HOT_RESIZE: "a running instance can be given more processors and memory, where its guest allows it",
}
"""One sentence for each flag."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest values that a driver takes; None means that only the hypervisor's own limits apply."""

    max_vcpus: int | None = None
    max_memory_bytes: int | None = None
    max_data_disks: int | None = None
    max_interfaces: int | None = None
    max_console_bytes: int | None = None
    max_volumes: int | None = None
    """Volumes attached to one instance at a time."""
    max_snapshots: int | None = None
    """Snapshots of one instance at a time."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """A driver's declaration."""

    flags: frozenset[Capability]
    limits: Limits = Limits()
    image_formats: frozenset[str] = frozenset()
    """Values of ImageFormat that it can read from a URL, and write to one; empty means that it does not say."""


class NeedsCapability:
    """Mixed into a request's part whose mere presence asks for a capability."""

    __slots__ = ()
    capability: ClassVar[Capability]
