"""How the kinds of hypervisor differ: names, capabilities, formats, and how long their calls take."""

from __future__ import annotations

import enum

import msgspec

from federation.contract.capabilities import Capability
from federation.contract.instances import ImageFormat


class HypervisorKind(enum.StrEnum):
    """What the simulation imitates."""

    KVM = "kvm"
    VSPHERE = "vsphere"
    HYPERV = "hyperv"


class Delay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a call takes: uniformly ``mean`` ± ``jitter`` seconds, never below zero."""

    mean: float = 0.0
    jitter: float = 0.0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind; ``slower`` multiplies the typical delays."""

    product: str
    node_prefix: str
    flags: frozenset[Capability]
    formats: frozenset[ImageFormat]
    slower: float


_EVERY = frozenset(Capability)

PROFILES: dict[HypervisorKind, Profile] = {
    HypervisorKind.KVM: Profile(
        product="simulated QEMU/KVM 9.0",
        node_prefix="kvm",
        flags=_EVERY - {Capability.BOOT_TEMPLATE},
        formats=frozenset({ImageFormat.QCOW2, ImageFormat.RAW}),
        slower=1.0,
    ),
    # vSphere suspends but does not pause, boots no kernel directly, and hands out no console text.
    HypervisorKind.VSPHERE: Profile(
        product="simulated vSphere 8.0",
        node_prefix="esxi",
        flags=_EVERY - {Capability.BOOT_KERNEL, Capability.PAUSE, Capability.CONSOLE_OUTPUT},
        formats=frozenset({ImageFormat.VMDK}),
        slower=3.0,
    ),
    # Hyper-V boots no kernel directly and hands out no console text.
    HypervisorKind.HYPERV: Profile(
        product="simulated Hyper-V 2022",
        node_prefix="hv",
        flags=_EVERY - {Capability.BOOT_KERNEL, Capability.CONSOLE_OUTPUT},
        formats=frozenset({ImageFormat.VHDX}),
        slower=2.0,
    ),
}

TYPICAL: dict[str, Delay] = {
    "allocate_disk": Delay(mean=0.6, jitter=0.3),
    "define": Delay(mean=0.15, jitter=0.05),
    "start": Delay(mean=0.9, jitter=0.3),
    "stop": Delay(mean=0.4, jitter=0.2),
    "shut_down_guest": Delay(mean=3.0, jitter=1.5),
    "press_power_button": Delay(mean=0.02, jitter=0.01),
    "reset": Delay(mean=0.3, jitter=0.1),
    "restart_guest": Delay(mean=4.0, jitter=1.5),
    "pause": Delay(mean=0.05, jitter=0.02),
    "unpause": Delay(mean=0.05, jitter=0.02),
    "write_memory": Delay(mean=4.0, jitter=2.0),
    "suspend": Delay(mean=0.2, jitter=0.1),
    "restore": Delay(mean=3.0, jitter=1.0),
    "undefine": Delay(mean=0.1, jitter=0.05),
    "delete_disk": Delay(mean=0.3, jitter=0.1),
    "discard_memory": Delay(mean=0.2, jitter=0.1),
    "set_processors": Delay(mean=0.1, jitter=0.05),
    "set_memory": Delay(mean=0.1, jitter=0.05),
}
"""Seconds at pace 1; orders of magnitude as on a loaded KVM host with network storage, no measurement of any product."""
