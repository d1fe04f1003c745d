"""VMDK files of one piece: their header and the description in it, read and checked.  Pure.

Source: VMware, "Virtual Disk Format 5.0" (hosted sparse extents, stream-optimized compressed sparse extents).

Rules:

1. Taken are ``streamOptimized`` (what an OVA holds, and what vSphere itself imports and exports) and ``monolithicSparse``
   (what hosted products and ``qemu-img`` write): whole disks in one file.
2. A disk that names another file is refused, whatever it is: a parent (a snapshot's part), extents beside it (flat, split),
   a path.  The name of an extent could be that of somebody else's disk on the datastore.
3. Sizes in a header are believed within limits only: nothing is read into memory by what a file says of itself.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from federation.contract.errors import ImageRejected

SECTOR = 512
MAGIC = b"KDMV"
COW_MAGIC = b"COWD"
DESCRIPTOR_MAGIC = b"# Disk DescriptorFile"
STREAM, SPARSE = "streamOptimized", "monolithicSparse"
GD_AT_END = (1 << 64) - 1
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
LINE_ENDS = b"\n \r\n"
"""What a header repeats of itself, so that a transfer that changes line ends is noticed."""
COMPRESSED, MARKERS, ZERO_GRAINS, LINES_TESTED = 1 << 16, 1 << 17, 1 << 2, 1
DEFLATE = 1
MAX_SECTORS = (62 << 40) // SECTOR
"""vSphere's largest disk: 62 TiB."""
MIN_GRAIN_SECTORS, MAX_GRAIN_SECTORS = 8, 2048
MAX_DESCRIPTOR_BYTES = 64 << 10
MAX_DESCRIPTOR_OFFSET = (1 << 20) // SECTOR
MAX_OVERHEAD_BYTES = 512 << 20
"""Header, description and, where they are not at the end, tables before the first grain of a stream."""
_VERSIONS = frozenset({1, 2, 3})
_MAX_TABLE_ENTRIES = 4096
_NO_PARENT = "ffffffff"
_EXTENT = re.compile(r'^(?:RW|RDONLY)\s+(\d{1,19})\s+(\w+)\s+"([^"\r\n]*)"\s*(?:\d+\s*)?$')
_ACCESS = re.compile(r"^(?:RW|RDONLY|NOACCESS)\s")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first sector says; offsets and sizes are in sectors unless they are called bytes."""

    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_offset: int
    descriptor_sectors: int
    table_entries: int
    directory: int
    overhead: int
    compression: int

    @property
    def capacity_bytes(self) -> int:
        """The disk's size as its guest sees it."""
        return self.capacity * SECTOR

    @property
    def grain_bytes(self) -> int:
        """The size of one piece."""
        return self.grain * SECTOR

    @property
    def is_stream(self) -> bool:
        """Whether its grains are compressed, each behind a marker that says where it belongs."""
        return bool(self.flags & COMPRESSED and self.flags & MARKERS)


def read_header(sector: bytes) -> Header:
    """The header in a file's first sector; ImageRejected names what is wrong with it."""
    if len(sector) < SECTOR or sector[:4] != MAGIC:
        raise ImageRejected(_not_ours(sector), field="format", expected=f"{STREAM} or {SPARSE}")
    fields = HEADER.unpack_from(sector)
    _, version, flags, capacity, grain, offset, sectors, entries, _, directory, overhead, _, ends, compression = fields
    header = Header(
        version, flags, capacity, grain, offset, sectors, entries, directory, overhead, compression
    )  # fmt: skip
    _must(version in _VERSIONS, f"version is {version}")
    _must(not flags & LINES_TESTED or ends == LINE_ENDS, "its line ends were changed on the way")
    _must(0 < capacity <= MAX_SECTORS, f"capacity is {capacity} sectors")
    _must(MIN_GRAIN_SECTORS <= grain <= MAX_GRAIN_SECTORS and grain & (grain - 1) == 0, f"grains have {grain} sectors")
    _must(0 < entries <= _MAX_TABLE_ENTRIES, f"a grain table has {entries} entries")
    _must(bool(flags & COMPRESSED) == bool(flags & MARKERS), "compressed without markers, or the other way round")
    _must(compression == (DEFLATE if flags & COMPRESSED else 0), f"compression is {compression}")
    described = offset > 0 and 0 < sectors * SECTOR <= MAX_DESCRIPTOR_BYTES
    _must(described, "it has no description of a whole disk: it may be a part of a split one")
    _must((offset + sectors) <= overhead <= MAX_OVERHEAD_BYTES // SECTOR or not header.is_stream, "overhead is wrong")
    _must(offset <= MAX_DESCRIPTOR_OFFSET, f"the description is at sector {offset}")
    return header


def check_descriptor(header: Header, text: bytes) -> None:
    """ImageRejected unless the description is that of one whole disk in this very file."""
    lines = [line.strip() for line in text.rstrip(b"\0").decode("utf-8", "replace").splitlines()]
    fields = {
        name.strip().lower(): value.strip().strip('"')
        for name, mark, value in (line.partition("=") for line in lines if not line.startswith("#"))
        if mark and not _ACCESS.match(name)
    }
    expected = STREAM if header.is_stream else SPARSE
    kind = fields.get("createtype", "")
    _must(kind == expected, f"createType is {kind[:64]!r}, its header is that of {expected}")
    parent = fields.get("parentcid", _NO_PARENT).lower()
    _must(
        parent == _NO_PARENT and "parentfilenamehint" not in fields, "it needs a parent disk (it is a snapshot's part)"
    )
    extents = [line for line in lines if _ACCESS.match(line)]
    _must(len(extents) == 1, f"it has {len(extents)} extents, a whole disk in one file has 1")
    found = _EXTENT.match(extents[0])
    _must(found is not None, f"extent {extents[0][:80]!r} cannot be read")
    sectors, type_, name = found.groups()  # type: ignore[union-attr]  # checked just above
    _must(type_ == "SPARSE", f"its extent is {type_}, which is another file")
    _must(not set(name) & set("/\\[]") and ".." not in name, f"its extent has a path: {name[:80]!r}")
    _must(int(sectors) == header.capacity, f"its extent has {sectors} sectors, its header says {header.capacity}")


def _not_ours(start: bytes) -> str:
    if start.startswith(DESCRIPTOR_MAGIC):
        return (
            "the VMDK is a description only, its data are in other files: send the -flat file as raw, or convert it to "
            f"{STREAM}"
        )
    if start.startswith(COW_MAGIC):
        return f"the VMDK is a COWD extent of an old host; convert it to {STREAM}"
    return "the file is no VMDK, and no OVA"


def _must(condition: bool, wrong: str) -> None:  # noqa: FBT001 - an assertion that is not one of the program's
    if not condition:
        raise ImageRejected(f"the VMDK cannot be used: {wrong}", field="format")
