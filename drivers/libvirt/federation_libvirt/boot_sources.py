"""What a root disk is made of: a cached image, a template, or a volume that is used as it is."""

from __future__ import annotations

from dataclasses import dataclass

from federation.contract.errors import ImageRejected, ImageUnavailable, NotSupported
from federation.contract.instances import (
    BootImage,
    BootKernel,
    BootSource,
    BootTemplate,
    BootVolume,
    ImageFormat,
)
from federation_libvirt import copies, device_xml, image_format, names, volumes
from federation_libvirt.attempt import Attempt
from federation_libvirt.copies import Share
from federation_libvirt.device_xml import Disk
from federation_libvirt.host import Host
from federation_libvirt.images import check_allowed
from federation_libvirt.settings import ImageRules
from federation_libvirt.storage import Clone, Source

_COPIED = Share(20, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a root disk stands on, or is copied from when ``source`` is set; the size of the disk in it, in bytes."""

    path: str
    format: str
    virtual_bytes: int
    source: Source | None = None


def check(boot: BootSource, rules: ImageRules) -> None:
    """Everything that the request alone tells; raises InvalidRequest or NotSupported."""
    if isinstance(boot, BootImage):
        if boot.format not in image_format.SUPPORTED:
            supported = ", ".join(sorted(image_format.SUPPORTED))
            raise NotSupported(f"image format {boot.format} is not supported; supported: {supported}")
        check_allowed(boot.url, rules)
    elif isinstance(boot, BootKernel):
        check_allowed(boot.kernel_url, rules)
        check_allowed(boot.initrd_url, rules)
    elif isinstance(boot, BootVolume):
        volumes.format_asked(boot.format)


def check_there(attempt: Attempt, host: Host, boot: BootSource, instance: str) -> None:
    """Raise unless the template or volume is there, and the volume unused."""
    if isinstance(boot, BootTemplate):
        root_size(boot.size_bytes, template(host, boot))
    elif isinstance(boot, BootVolume):
        place = volumes.place_of(host, boot.pool, boot.volume)
        volumes.check_there(attempt, host, place)
        volumes.check_unused(host, place, instance)


def check_still_unused(host: Host, boot: BootSource, instance: str) -> None:
    """Look again who uses the volume once the domain is defined: of two that do this at a time, one sees the other."""
    if isinstance(boot, BootVolume):
        volumes.check_unused(host, volumes.place_of(host, boot.pool, boot.volume), instance)


def root_disk(host: Host, boot: BootSource, instance: str) -> Disk | None:
    """The root disk, there or not; None for an instance that boots from a kernel."""
    if isinstance(boot, BootVolume):
        place = volumes.place_of(host, boot.pool, boot.volume)
        serial = device_xml.volume_serial(boot.volume)
        return Disk(path=place.path, format=volumes.format_asked(boot.format), serial=serial)
    if isinstance(boot, BootKernel):
        return None
    return Disk(path=f"{host.disks.folder()}/{names.root_disk(instance)}", format="qcow2", serial="root")


def template(host: Host, boot: BootTemplate) -> Base:
    """The template; ImageUnavailable when the pool has none of that name."""
    pool = volumes.file_pool(host, boot.pool)
    found = names.templates(boot.template, pool.volumes())
    if not found:
        raise ImageUnavailable(
            f"{host.node}: storage pool {pool.name} has no template {boot.template}", template=boot.template
        )
    return Base(
        path=f"{pool.folder()}/{found[0].volume}",
        format=ImageFormat.QCOW2,
        virtual_bytes=found[0].virtual_bytes,
        source=None if boot.linked else Source(pool=pool, name=found[0].volume, format=ImageFormat.QCOW2),
    )


def root_size(asked: int | None, base: Base) -> int:
    """Bytes of the root disk; ImageRejected when it would be smaller than what it is made of."""
    if asked is not None and asked < base.virtual_bytes:
        raise ImageRejected(
            f"the image needs a disk of {base.virtual_bytes} bytes, the request says {asked}",
            field="size_bytes",
            found=base.virtual_bytes,
            expected=asked,
        )
    return asked or base.virtual_bytes


def make_root(attempt: Attempt, host: Host, instance: str, base: Base, size: int) -> None:
    """Make the root disk: on top of its base, or as a full copy that is then made as large as it should be."""
    name = names.root_disk(instance)
    if base.source is None:
        host.disks.make_disk(attempt, name, size, (base.path, base.format))
        return
    wanted = Clone(source=base.source, name=name, format=ImageFormat.QCOW2)
    copies.copy(attempt, host, host.disks, wanted, _COPIED)
    if size != base.virtual_bytes:
        host.disks.resize(attempt, name, size)
