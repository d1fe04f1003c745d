"""Instances: how they are asked for (InstanceSpec) and how they are seen (Instance)."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from federation.contract.capabilities import Capability, NeedsCapability
from federation.contract.fields import (
    Checksum,
    DiskBytes,
    Extensions,
    InstanceId,
    InstanceName,
    MacAddress,
    MemoryBytes,
    Metadata,
    NodeName,
    ShortText,
    SshKey,
    Url,
    UserData,
    VcpuCount,
)


class PowerState(enum.StrEnum):
    """What the hypervisor says of an instance."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    """Memory saved to storage, processors gone."""
    CRASHED = "crashed"


class Firmware(enum.StrEnum):
    """What the machine starts with."""

    BIOS = "bios"
    UEFI = "uefi"


class ImageFormat(enum.StrEnum):
    """Format of a disk image file."""

    QCOW2 = "qcow2"
    RAW = "raw"
    VMDK = "vmdk"
    VHDX = "vhdx"


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the guest sees its processors; the product must equal ``vcpus``."""

    sockets: VcpuCount = 1
    cores: VcpuCount = 1
    threads: VcpuCount = 1


class Flavour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processors, memory and firmware."""

    vcpus: VcpuCount
    memory_bytes: MemoryBytes
    firmware: Firmware = Firmware.BIOS
    topology: Topology | None = None


class BootImage(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="image",
):
    """Boot from a copy of a disk image; the checksum is that of the file behind the URL."""

    capability: ClassVar[Capability] = Capability.BOOT_IMAGE
    url: Url
    checksum: Checksum
    format: ImageFormat
    size_bytes: DiskBytes | None = None
    """Size of the root disk; None means the image's own virtual size."""


class BootTemplate(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="template",
):
    """Boot from a clone of a template."""

    capability: ClassVar[Capability] = Capability.BOOT_TEMPLATE
    template: ShortText
    linked: bool = False


class BootVolume(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="volume",
):
    """Boot from a volume that exists; it outlives the instance."""

    capability: ClassVar[Capability] = Capability.BOOT_VOLUME
    volume: ShortText


class BootKernel(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="kernel",
):
    """Boot a kernel and an initial RAM disk directly."""

    capability: ClassVar[Capability] = Capability.BOOT_KERNEL
    kernel_url: Url
    kernel_checksum: Checksum
    initrd_url: Url
    initrd_checksum: Checksum
    command_line: Annotated[str, Meta(max_length=2048)] = ""


BootSource = BootImage | BootTemplate | BootVolume | BootKernel


class DataDisk(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A blank disk made with the instance and destroyed with it."""

    capability: ClassVar[Capability] = Capability.DATA_DISKS
    size_bytes: DiskBytes


class Interface(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network interface; ``mac`` None lets the driver derive one from the instance's id."""

    capability: ClassVar[Capability] = Capability.INTERFACES
    network: ShortText
    mac: MacAddress | None = None


class GuestSetup(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What cloud-init finds at the first boot."""

    capability: ClassVar[Capability] = Capability.USER_DATA
    user_data: UserData = ""
    ssh_keys: Annotated[tuple[SshKey, ...], Meta(max_length=64)] = ()


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What create is asked to make; ``node`` None leaves the choice to the manager."""

    name: InstanceName
    flavour: Flavour
    boot: BootSource
    node: NodeName | None = None
    data_disks: Annotated[tuple[DataDisk, ...], Meta(max_length=32)] = ()
    interfaces: Annotated[tuple[Interface, ...], Meta(max_length=16)] = ()
    guest: GuestSetup | None = None
    metadata: Metadata = {}
    extensions: Extensions = {}


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as the hypervisor shows it."""

    name: str
    size_bytes: int | None = None
    source: str = ""


class InterfaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface as the hypervisor shows it."""

    mac: str
    network: str = ""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as the hypervisor shows it; ``owned`` is false for machines that are not ours (never touched)."""

    id: str
    name: str
    node: str
    power_state: PowerState
    vcpus: int
    memory_bytes: int
    owned: bool = True
    disks: tuple[DiskFacts, ...] = ()
    interfaces: tuple[InterfaceFacts, ...] = ()
    metadata: dict[str, str] = {}


class InstancePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some instances in the order of their ids; ``next`` continues after the last, None means that this was all."""

    instances: tuple[Instance, ...]
    next: InstanceId | None = None


class ConsoleOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The last bytes that the guest printed, decoded as UTF-8 with replacement."""

    text: str
    truncated: bool
