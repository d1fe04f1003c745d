"""Captures: an image made of an instance's root disk."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from federation.contract.capabilities import Capability, NeedsCapability
from federation.contract.fields import PoolName, StoredName, Url
from federation.contract.instances import ImageFormat


class CaptureTemplate(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="template",
):
    """A template in the hypervisor's storage, for ``BootTemplate``.

    One of that name that this very operation did not make is ``already_exists``.
    """

    capability: ClassVar[Capability] = Capability.CAPTURE_TEMPLATE
    template: StoredName
    pool: PoolName = ""


class CaptureUpload(
    msgspec.Struct,
    NeedsCapability,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="upload",
):
    """A file sent to ``url`` by HTTP PUT, or written there for ``file:``; both limited by the driver's allow-list."""

    capability: ClassVar[Capability] = Capability.CAPTURE_UPLOAD
    url: Url
    format: ImageFormat


CaptureTarget = CaptureTemplate | CaptureUpload


class CapturedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What was captured; boot from it by ``template`` or by ``url`` and ``checksum``, whichever is set."""

    format: str
    """A value of ImageFormat, or a newer one."""
    virtual_size_bytes: int
    """Size of the disk that the guest sees."""
    template: str | None = None
    pool: str | None = None
    url: str | None = None
    checksum: str | None = None
    """Of the file behind ``url``, as BootImage takes it."""
    size_bytes: int | None = None
    """Size of the file behind ``url``."""
