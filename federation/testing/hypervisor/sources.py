"""What an instance may boot from.

Images are read only in the folders that the settings allow; of every other the name says what would be found.
"""

from __future__ import annotations

from federation.contract.errors import Conflict, ImageRejected, ImageUnavailable, InvalidRequest, NotFound
from federation.contract.instances import BootImage, BootKernel, BootSource, BootTemplate, BootVolume
from federation.testing.hypervisor import stored
from federation.testing.hypervisor.image_files import allowed_path
from federation.testing.hypervisor.pools import find_stored, pool_of, volume_disk
from federation.testing.hypervisor.records import Disk
from federation.testing.hypervisor.session import Session
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.hypervisor.stored import Stored

MISSING = "missing://"
CORRUPT = "corrupt://"
IMAGE_BYTES = 2 << 30
LINKED_BYTES = 256 << 20


def root_disk(session: Session, boot: BootSource) -> Disk | None:
    """The disk to boot from, to be made or (a volume, ``kept``) to be used; None when there is none.

    Raises what a hypervisor would: ImageUnavailable, ImageRejected, InvalidRequest, Conflict.
    """
    settings = session.hypervisor.settings
    if isinstance(boot, BootKernel):
        _check_file(settings, boot.kernel_url, boot.kernel_checksum)
        _check_file(settings, boot.initrd_url, boot.initrd_checksum)
        return None
    if isinstance(boot, BootVolume):
        return volume_disk(session, _free_volume(session, boot), root=True)
    if isinstance(boot, BootTemplate):
        return _of_template(session, boot)
    return _of_image(session, boot)


def _of_image(session: Session, boot: BootImage) -> Disk:
    settings = session.hypervisor.settings
    if boot.format not in settings.profile.formats:
        takes = ", ".join(settings.profile.formats)
        message = f"create: format {boot.format} is none that {settings.profile.product} takes: {takes}"
        raise InvalidRequest(message, field="spec.boot.format", value=boot.format)
    path = allowed_path(settings, boot.url)
    if path is None:
        _check_file(settings, boot.url, boot.checksum)
        return _made(session, boot.size_bytes or IMAGE_BYTES, boot.url)
    found = session.look("read_image", lambda _connection: stored.read_image(path))
    if found is None:
        raise ImageUnavailable(f"image {boot.url} cannot be read: there is none", name=boot.url)
    image, checksum, _ = found
    if checksum != boot.checksum:
        message = f"image {boot.url} has checksum {checksum}, the request says {boot.checksum}"
        raise ImageRejected(message, url=boot.url, found=checksum)
    if image.format != boot.format:
        message = f"image {boot.url} is {image.format}, the request says {boot.format}"
        raise ImageRejected(message, url=boot.url, found=image.format)
    size = _large_enough(boot.size_bytes, image.virtual_size_bytes, f"image {boot.url}")
    return _made(session, size, boot.url, generation=image.generation, content=image.content)


def _of_template(session: Session, boot: BootTemplate) -> Disk:
    template = _find(session, stored.TEMPLATE, boot.pool, boot.template)
    size = _large_enough(boot.size_bytes, template.size_bytes, f"template {boot.template}")
    return _made(
        session, size, f"template {boot.template}", generation=template.generation, content=template.content,
        allocated_bytes=min(size, LINKED_BYTES) if boot.linked else None,
    )  # fmt: skip


def _free_volume(session: Session, boot: BootVolume) -> Stored:
    volume = _find(session, stored.VOLUME, boot.pool, boot.volume)
    if volume.used_by not in {None, session.machine_id}:
        message = f"volume {boot.volume} is used by machine {volume.used_by}"
        raise Conflict(message, volume=boot.volume, used_by=volume.used_by)
    expected = str(session.hypervisor.settings.format_of(boot.format))
    if volume.format != expected:
        message = f"volume {boot.volume} is {volume.format}, the request says {expected}"
        raise ImageRejected(message, volume=boot.volume, found=volume.format)
    return volume


def _find(session: Session, kind: str, pool: str, name: str) -> Stored:
    try:
        there = find_stored(session, kind, pool_of(session, pool), name)
    except NotFound as error:
        raise ImageUnavailable(f"{kind} {name} cannot be read: {error.message}", name=name) from error
    if there is None or not there.complete:
        raise ImageUnavailable(f"{kind} {name} cannot be read: there is none", name=name)
    return there


def _large_enough(asked: int | None, there: int, what: str) -> int:
    if asked is not None and asked < there:
        message = f"create: {what} has {there} bytes, which do not fit into {asked}"
        raise InvalidRequest(message, field="spec.boot.size_bytes", value=asked, there=there)
    return asked or there


def _made(
    session: Session, size: int, source: str, *, generation: int = 0, content: str = "",
    allocated_bytes: int | None = None,
) -> Disk:  # fmt: skip
    return Disk(
        name=f"{session.machine_id}-root",
        size_bytes=size,
        source=source,
        made_by=session.call.operation,
        root=True,
        generation=generation,
        content=content or source,
        allocated_bytes=allocated_bytes,
    )


def _check_file(settings: SimulatedSettings, url: str, checksum: str) -> None:
    if url.startswith(MISSING):
        raise ImageUnavailable(f"image {url} cannot be read: there is none", name=url)
    known = settings.images.get(url, checksum)
    if known != checksum or url.startswith(CORRUPT):
        found = known if known != checksum else "something else"
        raise ImageRejected(f"image {url} has checksum {found}, the request says {checksum}", url=url, found=found)
