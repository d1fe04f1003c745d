"""What an instance may boot from: no image is ever read, the name says what would be found."""

from __future__ import annotations

from federation.contract.errors import ImageRejected, ImageUnavailable, InvalidRequest
from federation.contract.instances import BootImage, BootKernel, BootSource, BootTemplate
from federation.testing.hypervisor.settings import SimulatedSettings

MISSING = "missing://"
CORRUPT = "corrupt://"
IMAGE_BYTES = 2 << 30
LINKED_BYTES = 256 << 20


def check_source(settings: SimulatedSettings, boot: BootSource) -> None:
    """Raise what a hypervisor would: ImageUnavailable, ImageRejected, InvalidRequest."""
    if isinstance(boot, BootImage):
        if boot.format not in settings.profile.formats:
            takes = ", ".join(sorted(settings.profile.formats))
            message = f"create: format {boot.format} is none that {settings.profile.product} takes: {takes}"
            raise InvalidRequest(message, field="spec.boot.format", value=boot.format)
        _check_file(settings, boot.url, boot.checksum)
    elif isinstance(boot, BootKernel):
        _check_file(settings, boot.kernel_url, boot.kernel_checksum)
        _check_file(settings, boot.initrd_url, boot.initrd_checksum)
    elif isinstance(boot, BootTemplate):
        _check_there("template", boot.template)
    else:
        _check_there("volume", boot.volume)


def root_disk(boot: BootSource) -> tuple[int, str]:
    """Size in bytes and origin of the root disk to make; size 0 when none is made."""
    if isinstance(boot, BootImage):
        return boot.size_bytes or IMAGE_BYTES, boot.url
    if isinstance(boot, BootTemplate):
        return LINKED_BYTES if boot.linked else IMAGE_BYTES, f"template {boot.template}"
    return 0, ""


def _check_file(settings: SimulatedSettings, url: str, checksum: str) -> None:
    _check_there("image", url)
    known = settings.images.get(url, checksum)
    if known != checksum or url.startswith(CORRUPT):
        found = known if known != checksum else "something else"
        raise ImageRejected(f"image {url} has checksum {found}, the request says {checksum}", url=url, found=found)


def _check_there(what: str, name: str) -> None:
    if name.startswith(MISSING):
        raise ImageUnavailable(f"{what} {name} cannot be read: there is none", name=name)
