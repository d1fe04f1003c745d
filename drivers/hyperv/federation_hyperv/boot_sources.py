"""Where a root disk comes from: an image by URL, a template, or a volume that exists.

An image is fetched once for each host into the driver's folder, where the worker sees it; its checksum is checked on the
way, and it gets its cached name when it is complete.  Root disks are differencing disks over it, so making one takes no
time, unless they are to be larger; over templates only when ``linked`` is asked for.
"""

from __future__ import annotations

from federation.contract.errors import (
    Conflict,
    HypervisorRefused,
    ImageRejected,
    ImageUnavailable,
    InvalidRequest,
    NotFound,
    NotSupported,
)
from federation.contract.instances import BootImage, BootKernel, BootSource, BootTemplate, BootVolume, ImageFormat
from federation_hyperv import images, names, volumes
from federation_hyperv.attempt import Attempt
from federation_hyperv.host import Host
from federation_hyperv.images import Expected, Reading
from federation_hyperv.machine import store_of
from federation_hyperv.msvm import child_disk
from federation_hyperv.settings import ImageRules
from federation_hyperv.storage import Store

ALGORITHMS = frozenset({"sha256", "sha512"})


def check(boot: BootSource, rules: ImageRules) -> None:
    """What the request alone tells; raises NotSupported or InvalidRequest."""
    if isinstance(boot, BootKernel):
        raise NotSupported("Hyper-V boots no kernel directly; use an image", capability="boot_kernel")
    if isinstance(boot, BootImage):
        check_format(boot.format)
        algorithm = boot.checksum.partition(":")[0]
        if algorithm not in ALGORITHMS:
            told = f"checksum is of {algorithm}, known are: {', '.join(sorted(ALGORITHMS))}"
            raise InvalidRequest(told, field="spec.boot.checksum")
        images.check_allowed(boot.url, rules)


def check_format(found: ImageFormat | None) -> None:
    """Raise NotSupported for formats that Hyper-V does not take."""
    if found not in {None, ImageFormat.VHDX}:
        raise NotSupported(f"format {found} is not supported by this driver, it takes vhdx", format=found)


def root_file(host: Host, boot: BootSource, instance: str) -> str:
    """Path of the root disk."""
    if isinstance(boot, BootVolume):
        return volumes.place_of(host, boot.pool, boot.volume).path
    return store_of(host).path(names.root_disk(instance))


def check_there(host: Host, boot: BootSource, instance: str) -> None:
    """What the host alone tells: a volume or template is there, and nobody uses the volume."""
    if isinstance(boot, BootVolume):
        check_format(boot.format)
        place = volumes.place_of(host, boot.pool, boot.volume)
        if not place.store.has(place.file):
            raise NotFound(f"{host.node} has no volume {boot.volume!r}", volume=boot.volume)
        volumes.check_unused(host, place, instance)
    elif isinstance(boot, BootTemplate):
        template_file(host, boot)
    elif isinstance(boot, BootImage):
        store_of(host).local("")


def template_file(host: Host, boot: BootTemplate) -> str:
    """Path of a template; ImageUnavailable when there is none."""
    store = volumes.store(host, boot.pool)
    found = names.templates(boot.template, store.files())
    if not found:
        raise ImageUnavailable(
            f"{host.node} has no template {boot.template!r} in {store.folder}", template=boot.template
        )
    return store.path(found[0])


def base_of(attempt: Attempt, host: Host, boot: BootSource, instance: str, rules: ImageRules) -> str:
    """Path of what the root disk is made of; empty for a volume.  Images are fetched when they are not there."""
    if isinstance(boot, BootTemplate):
        return template_file(host, boot)
    if not isinstance(boot, BootImage):
        return ""
    store = store_of(host)
    file = names.cached(boot.checksum)
    if not store.has(file):
        _fetch(attempt, store, boot, instance, rules)
    return store.path(file)


def make_root(attempt: Attempt, host: Host, boot: BootSource, base: str, instance: str) -> int | None:
    """Make the root disk of a base that ``check_size`` has seen; returns its size in bytes, None for a volume's."""
    if not isinstance(boot, BootImage | BootTemplate):
        return None
    store = store_of(host)
    size = base_size(store, base)
    wanted = size if boot.size_bytes is None else boot.size_bytes
    file = names.root_disk(instance)
    # Hyper-V makes no differencing disk larger than its parent.
    if wanted > size or (isinstance(boot, BootTemplate) and not boot.linked):
        store.copy(attempt, base, file)
    else:
        store.make(attempt, "make the root disk", child_disk(store.path(file), base))
    if wanted > size:
        store.grow(attempt, store.path(file), wanted)
    return wanted


def base_size(store: Store, path: str) -> int:
    """Size in bytes of the disk that an image holds; ImageRejected when the host cannot read it."""
    try:
        return store.size(path)
    except (HypervisorRefused, InvalidRequest, Conflict) as error:
        raise ImageRejected(f"the image is no disk that Hyper-V can read: {error.message}", found="unknown") from error


def _fetch(attempt: Attempt, store: Store, boot: BootImage, instance: str, rules: ImageRules) -> None:
    part = names.fetching(instance, attempt.operation, attempt.number)
    reading = Reading(Expected(boot.url, boot.checksum, boot.format), rules, attempt.sleep)
    try:
        store.fetch(
            attempt,
            part,
            reading.chunks(),
            lambda read: attempt.progress(None, f"fetching the image, {read >> 20} MiB"),
        )
    except Exception:
        store.drop_fetched(part)
        raise
    # An image is a disk before it is cached: what is no VHDX would be cached for ever.
    try:
        base_size(store, store.path(part))
    except ImageRejected:
        store.drop_fetched(part)
        raise
    store.adopt_fetched(part, names.cached(boot.checksum))


def check_size(host: Host, boot: BootImage | BootTemplate, base: str) -> None:
    """ImageRejected when the base cannot be read, or is larger than the disk that is asked for."""
    size = base_size(store_of(host), base)
    if boot.size_bytes is not None and boot.size_bytes < size:
        told = f"the root disk is to have {boot.size_bytes} bytes, the image is a disk of {size}"
        raise ImageRejected(told, field="spec.boot.size_bytes", found=size, expected=boot.size_bytes)
