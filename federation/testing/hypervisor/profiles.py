"""How the kinds of hypervisor differ: names, capabilities, formats, and how long their calls take."""

from __future__ import annotations

import enum

import msgspec

from federation.contract.capabilities import Capability
from federation.contract.instances import ImageFormat


class HypervisorKind(enum.StrEnum):
    """What the simulation imitates."""

    GENERIC = "generic"
    """No product: declares every capability."""
    KVM = "kvm"
    VSPHERE = "vsphere"
    HYPERV = "hyperv"


class Delay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a call takes: uniformly ``mean`` ± ``jitter`` seconds, never below zero."""

    mean: float = 0.0
    jitter: float = 0.0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind; ``slower`` multiplies the typical delays, the first of ``formats`` is its own.

    ``counts_time`` says whether its metrics count processor time or give the share in use.
    """

    product: str
    node_prefix: str
    flags: frozenset[Capability]
    formats: tuple[ImageFormat, ...]
    slower: float
    counts_time: bool = True


_C = Capability
_EVERY = frozenset(Capability)
_CONSOLES = frozenset({_C.CONSOLE_VNC, _C.CONSOLE_SPICE, _C.CONSOLE_RDP, _C.CONSOLE_WEBMKS, _C.CONSOLE_SERIAL})

PROFILES: dict[HypervisorKind, Profile] = {
    HypervisorKind.GENERIC: Profile(
        product="simulated hypervisor",
        node_prefix="node",
        flags=_EVERY,
        formats=tuple(ImageFormat),
        slower=1.0,
    ),
    # QEMU draws by VNC and SPICE; RDP and WebMKS are other makers' protocols.
    HypervisorKind.KVM: Profile(
        product="simulated QEMU/KVM 9.0",
        node_prefix="kvm",
        flags=_EVERY - {_C.CONSOLE_RDP, _C.CONSOLE_WEBMKS},
        formats=(ImageFormat.QCOW2, ImageFormat.RAW),
        slower=1.0,
    ),
    # vSphere suspends but does not pause, boots no kernel directly, hands out no console text and only WebMKS tickets; a VLAN
    # belongs to a port group, and a guest's password needs the guest's own credentials.
    HypervisorKind.VSPHERE: Profile(
        product="simulated vSphere 8.0",
        node_prefix="esxi",
        flags=_EVERY
        - {_C.BOOT_KERNEL, _C.PAUSE, _C.CONSOLE_OUTPUT, _C.VLAN, _C.ADMIN_PASSWORD}
        - (_CONSOLES - {_C.CONSOLE_WEBMKS}),
        formats=(ImageFormat.VMDK,),
        slower=3.0,
    ),
    # Hyper-V boots no kernel directly, hands out no console text, shows screens by RDP, and has no call for a password.
    HypervisorKind.HYPERV: Profile(
        product="simulated Hyper-V 2022",
        node_prefix="hv",
        flags=_EVERY - {_C.BOOT_KERNEL, _C.CONSOLE_OUTPUT, _C.ADMIN_PASSWORD} - (_CONSOLES - {_C.CONSOLE_RDP}),
        formats=(ImageFormat.VHDX,),
        slower=2.0,
        counts_time=False,
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
    "adopt": Delay(mean=0.1, jitter=0.05),
    "enter_maintenance": Delay(mean=0.3, jitter=0.1),
    "leave_maintenance": Delay(mean=0.3, jitter=0.1),
    "make_volume": Delay(mean=0.4, jitter=0.2),
    "attach_volume": Delay(mean=0.3, jitter=0.1),
    "reattach_volume": Delay(mean=0.3, jitter=0.1),
    "detach_volume": Delay(mean=0.8, jitter=0.4),
    "delete_volume": Delay(mean=0.3, jitter=0.1),
    "extend_volume": Delay(mean=0.3, jitter=0.1),
    "attach_interface": Delay(mean=0.2, jitter=0.1),
    "detach_interface": Delay(mean=0.5, jitter=0.2),
    "ask_release": Delay(mean=0.02, jitter=0.01),
    "freeze": Delay(mean=0.3, jitter=0.1),
    "thaw": Delay(mean=0.2, jitter=0.1),
    "take_snapshot": Delay(mean=1.0, jitter=0.5),
    "revert_snapshot": Delay(mean=1.5, jitter=0.5),
    "delete_snapshot": Delay(mean=2.0, jitter=1.0),
    "drop_snapshot": Delay(mean=1.0, jitter=0.5),
    "write_template": Delay(mean=5.0, jitter=2.0),
    "publish_template": Delay(mean=0.1, jitter=0.05),
    "delete_template": Delay(mean=0.3, jitter=0.1),
    "upload_image": Delay(mean=6.0, jitter=3.0),
    "delete_image": Delay(mean=0.1, jitter=0.05),
    "prepare_target": Delay(mean=0.4, jitter=0.2),
    "drop_target": Delay(mean=0.3, jitter=0.1),
    "migrate_live": Delay(mean=4.0, jitter=2.0),
    "migrate_cold": Delay(mean=3.0, jitter=1.0),
    "set_password": Delay(mean=0.2, jitter=0.1),
    "inject_nmi": Delay(mean=0.02, jitter=0.01),
}
"""Seconds at pace 1; orders of magnitude as on a loaded KVM host with network storage, no measurement of any product."""
