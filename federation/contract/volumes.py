"""Volumes: disks that outlive instances."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from federation.contract.capabilities import Capability, NeedsCapability
from federation.contract.fields import DiskBytes, ExistingName, PoolName, StoredName
from federation.contract.instances import ImageFormat


class StoredVolume(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="stored"
):
    """A volume that exists in the hypervisor's storage.

    ``format`` None means the hypervisor's own (libvirt: qcow2, vSphere: vmdk, Hyper-V: vhdx); it is never guessed from
    what the volume holds, because a guest can write that.
    """

    volume: ExistingName
    pool: PoolName = ""
    format: ImageFormat | None = None


class NewVolume(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="new",
):
    """A blank volume that is made in the hypervisor's own format when it is attached, and outlives the instance.

    One of that name that this very operation did not make is ``already_exists``.
    """

    capability: ClassVar[Capability] = Capability.NEW_VOLUMES
    volume: StoredName
    size_bytes: DiskBytes
    pool: PoolName = ""


VolumeSource = StoredVolume | NewVolume
