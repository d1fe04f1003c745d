"""Instances: how they are asked for (InstanceSpec) and how they are seen (Instance)."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from federation.contract.capabilities import Capability, NeedsCapability
from federation.contract.fields import (
    LINE,
    Checksum,
    DiskBytes,
    ExistingName,
    Extensions,
    InstanceName,
    MacAddress,
    MemoryBytes,
    Metadata,
    NodeName,
    NonEmptyText,
    PageToken,
    PoolName,
    SshKey,
    Url,
    UserData,
    VcpuCount,
    VlanId,
)
from federation.contract.since import since


class PowerState(enum.StrEnum):
    """What the hypervisor says of an instance."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    """Memory saved to storage, processors gone."""
    CRASHED = "crashed"
    UNKNOWN = "unknown"
    """The hypervisor does not say, or says what this release has no word for."""

    @classmethod
    def _missing_(cls, _value: object) -> PowerState:
        """What a newer release calls by a word of its own is unknown to an older one."""
        return cls.UNKNOWN


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
    """Boot from a clone of a template; ``linked`` shares the template's unchanged blocks instead of copying them."""

    capability: ClassVar[Capability] = Capability.BOOT_TEMPLATE
    template: ExistingName
    pool: PoolName = ""
    linked: bool = False
    size_bytes: DiskBytes | None = None
    """Size of the root disk; None means the template's own."""


class BootVolume(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="volume",
):
    """Boot from a volume that exists and that no instance uses; it outlives the instance.

    ``format`` None means the hypervisor's own (libvirt: qcow2, vSphere: vmdk, Hyper-V: vhdx); it is never guessed from
    what the volume holds.
    """

    capability: ClassVar[Capability] = Capability.BOOT_VOLUME
    volume: ExistingName
    pool: PoolName = ""
    format: ImageFormat | None = None


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
    command_line: Annotated[str, Meta(max_length=2048, pattern=LINE)] = ""


BootSource = BootImage | BootTemplate | BootVolume | BootKernel


class DataDisk(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A blank disk made with the instance and destroyed with it."""

    capability: ClassVar[Capability] = Capability.DATA_DISKS
    size_bytes: DiskBytes


class Interface(msgspec.Struct, NeedsCapability, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network interface; ``mac`` None lets the driver derive one from the instance's id."""

    capability: ClassVar[Capability] = Capability.INTERFACES
    network: NonEmptyText
    mac: MacAddress | None = None
    vlan: VlanId | None = None
    """Needs the capability ``vlan``; None leaves the frames as the network has them."""


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
    """A disk as the hypervisor shows it; ``name`` stays the same while it is attached (metrics refer to it)."""

    name: str
    size_bytes: int | None = None
    source: str = ""
    volume: str | None = None
    """Name of the volume that attach_volume or a boot source gave; None for the instance's own disks."""
    pool: str | None = None


class InterfaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A network interface as the hypervisor shows it."""

    mac: str
    network: str = ""
    vlan: int | None = None
    addresses: tuple[str, ...] = ()
    """IP addresses that the guest or the network reports; empty when nobody knows."""


class GuestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent in the guest reports."""

    agent: bool = False
    """Whether an agent answers now."""
    hostname: str = ""
    system: str = ""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as the hypervisor shows it.

    ``owned`` is false for machines that are not ours (never touched); their ``id`` is the hypervisor's own UUID in lower
    case, by which they can be adopted, and their ``metadata`` is empty.
    """

    id: str
    name: str
    node: str
    power_state: PowerState
    vcpus: int | None = None
    memory_bytes: int | None = None
    """None, like vcpus, where the hypervisor does not say (an inaccessible machine)."""
    owned: bool = True
    disks: tuple[DiskFacts, ...] = ()
    interfaces: tuple[InterfaceFacts, ...] = ()
    metadata: dict[str, str] = {}
    guest: GuestFacts | None = None
    hot_resize: Annotated[bool | None, since("1.1")] = None
    """Whether this very instance can grow while it runs; None where nobody said."""


class InstancePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some instances in the order of their ids; ``next`` continues after them, only None means that this was all.

    A page may hold fewer than were asked for, even none.

    ``unreachable`` names the nodes that did not answer: what they hold is missing here and says nothing of its fate.
    """

    instances: tuple[Instance, ...]
    next: PageToken | None = None
    unreachable: tuple[NodeName, ...] = ()


class ConsoleOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The last bytes that the guest printed, decoded as UTF-8 with replacement."""

    text: str
    truncated: bool
