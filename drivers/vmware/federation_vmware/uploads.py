"""A raw image on its way into a machine's own folder: it becomes the flat extent of a VMDK, with a descriptor of ours.

The bytes are sent as they come, each piece behind a guard; the checksum is compared before the disk is attached.  Images of
the format ``vmdk`` take another way, see ``imports``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from federation.contract.errors import ImageRejected, ImageUnavailable, NotSupported
from federation.contract.instances import BootImage, ImageFormat
from federation_vmware import datastore_files
from federation_vmware.attempt import Attempt
from federation_vmware.datastore_files import finish_upload, guarded_by_network, open_upload
from federation_vmware.images import Expected, Reading
from federation_vmware.machine import Fleet, Machine, replaced

FORMATS = frozenset({str(ImageFormat.RAW), str(ImageFormat.VMDK)})
_SECTOR = 512
_HEADS, _SECTORS = 255, 63
_DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="vmfs"

# Extent description
RW {sectors} VMFS "{extent}"

# The Disk Data Base
ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "13"
"""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A disk that was sent: the datastore path of its descriptor, and its size."""

    path: str
    size_bytes: int


def check_format(boot: BootImage) -> None:
    """NotSupported unless vSphere can use the format as it is."""
    if str(boot.format) not in FORMATS:
        supported = ", ".join(sorted(FORMATS))
        raise NotSupported(f"image format {boot.format} is not supported; supported: {supported}", field="format")


def send(fleet: Fleet, attempt: Attempt, machine: Machine, boot: BootImage) -> Uploaded:
    """Send the image; ImageUnavailable or ImageRejected when it is not what the request says."""
    look = machine.look()
    path, extent = f"{look.directory}/root.vmdk", f"{look.directory}/root-flat.vmdk"
    owner = machine.owner(look)
    if owner.upload != extent:
        machine.reconfigure(attempt, look, "note the upload for", owner=replaced(owner, upload=extent))
    reading = Reading(Expected(boot.url, boot.checksum, boot.format), fleet.settings.images, attempt.sleep)
    length = _send_extent(fleet, attempt, reading, extent, boot)
    descriptor = descriptor_text(length, extent.rpartition("/")[2]).encode()
    attempt.guard()
    guarded_by_network(path, lambda: _send_whole(fleet, path, descriptor))
    return Uploaded(path, length)


def descriptor_text(length: int, extent: str) -> str:
    """The descriptor of a flat disk of so many bytes."""
    sectors = length // _SECTOR
    return _DESCRIPTOR.format(sectors=sectors, extent=extent, cylinders=max(1, sectors // (_HEADS * _SECTORS)))


def _send_extent(fleet: Fleet, attempt: Attempt, reading: Reading, extent: str, boot: BootImage) -> int:
    """The image's bytes, and zeros up to the size that the request says."""
    chunks = reading.chunks()
    first = next(chunks, b"")
    if reading.announced is None:
        raise ImageUnavailable("the image's server does not say how long the image is", field="url")
    length = _length(reading.announced, boot)
    attempt.guard()
    connection = guarded_by_network(extent, lambda: open_upload(fleet, extent, length))
    try:
        sent = 0
        for chunk in _padded(first, chunks, length):
            if sent:
                attempt.guard()
            guarded_by_network(extent, partial(connection.send, chunk))
            sent += len(chunk)
            attempt.progress(40 + 40 * sent / length, "sending the image")
        guarded_by_network(extent, lambda: finish_upload(extent, connection))
    finally:
        connection.close()
    return length


def _length(announced: int, boot: BootImage) -> int:
    if announced == 0 or announced % _SECTOR:
        raise ImageRejected(f"a raw disk of {announced} bytes is no whole number of sectors", field="format")
    if boot.size_bytes is not None and boot.size_bytes < announced:
        raise ImageRejected(
            f"the image needs a disk of {announced} bytes, the request says {boot.size_bytes}",
            field="size_bytes",
            found=announced,
            expected=boot.size_bytes,
        )
    return boot.size_bytes or announced


def _padded(first: bytes, rest: Iterator[bytes], length: int) -> Iterator[bytes]:
    sent = 0
    for chunk in itertools.chain((first,), rest):
        sent += len(chunk)
        yield chunk
    blank = bytes(1 << 20)
    while sent < length:
        piece = blank[: min(len(blank), length - sent)]
        sent += len(piece)
        yield piece


def _send_whole(fleet: Fleet, path: str, content: bytes) -> None:
    connection = datastore_files.open_upload(fleet, path, len(content))
    try:
        connection.send(content)
        finish_upload(path, connection)
    finally:
        connection.close()
