"""What the first bytes of a disk image say.  Pure.

A qcow2 file may name other files of the host (backing file, external data file): QEMU would open them for whoever wrote
the image.  Such images are refused.  Layout: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct

from federation.contract.errors import ImageRejected
from federation.contract.instances import ImageFormat

HEAD_BYTES = 512
LARGEST_CLUSTER = 2 << 20
"""Of a qcow2 file, in bytes."""
SECTOR = 512
SUPPORTED = frozenset({ImageFormat.QCOW2, ImageFormat.RAW})

_QCOW_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQI")
_INCOMPATIBLE = struct.Struct(">Q")
_INCOMPATIBLE_OFFSET = 72
_LONGEST_BACKING_NAME = 1023
_EXTERNAL_DATA_BIT = 1 << 2
_MAGICS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"# Disk DescriptorFile": "vmdk"}


def virtual_size(head: bytes, length: int, declared: ImageFormat) -> int:
    """Size in bytes of the disk in a file of ``length`` bytes that begins with ``head``.

    Raises ImageRejected when the file is not of the declared format or names other files.
    """
    found = next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "raw")
    if found != declared:
        raise ImageRejected(
            f"the image's format is {found}, the request says {declared}",
            field="format",
            found=found,
            expected=declared,
        )
    if declared is ImageFormat.RAW:
        if length == 0:
            raise ImageRejected("the image is empty", field="size", found=0)
        return -(-length // SECTOR) * SECTOR
    return _qcow2(head)


def _qcow2(head: bytes) -> int:
    if len(head) < _INCOMPATIBLE_OFFSET + _INCOMPATIBLE.size:
        raise ImageRejected(f"the qcow2 image ends after {len(head)} bytes", field="size", found=len(head))
    _, version, backing_offset, _, _, size, encryption = _HEADER.unpack_from(head)
    if version not in {2, 3}:
        raise ImageRejected(f"the qcow2 image has version {version}, expected 2 or 3", field="format", found=version)
    if backing_offset:
        raise ImageRejected("the qcow2 image names a backing file, which is not allowed", field="backing_file")
    if encryption:
        raise ImageRejected("the qcow2 image is encrypted, which is not supported", field="encryption")
    features = _INCOMPATIBLE.unpack_from(head, _INCOMPATIBLE_OFFSET)[0] if version == 3 else 0  # noqa: PLR2004
    if features & _EXTERNAL_DATA_BIT:
        raise ImageRejected("the qcow2 image names an external data file, which is not allowed", field="data_file")
    return int(size)


def with_backing(head: bytes, path: str) -> bytes:
    """The first bytes of a qcow2 file, naming another backing file of the same format: what ``qemu-img rebase -u`` writes.

    ``head`` reaches to the end of the first cluster, or of the file.  Only a file that names one already can be changed; the
    new name takes the old one's place, behind which QEMU keeps nothing in that cluster (qcow2.c, qcow2_update_header).
    Raises ImageRejected when it is no such file or the name does not fit.
    """
    if len(head) < _HEADER.size or not head.startswith(_QCOW_MAGIC):
        raise ImageRejected("not a qcow2 file", field="format")
    _, _, offset, _, cluster_bits, _, _ = _HEADER.unpack_from(head)
    name, cluster = path.encode(), 1 << cluster_bits
    if not offset or offset + len(name) > min(cluster, len(head)) or len(name) > _LONGEST_BACKING_NAME:
        raise ImageRejected(f"the qcow2 file has no room for the backing file {path}", field="backing_file")
    end = offset + struct.unpack_from(">I", head, 16)[0]
    cleared = head[:offset].ljust(end, b"\0") + head[end:]
    named = cleared[:offset] + name + cleared[offset + len(name) :]
    return named[:16] + struct.pack(">I", len(name)) + named[20:]
