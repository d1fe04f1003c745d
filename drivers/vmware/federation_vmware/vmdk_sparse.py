"""A monolithic sparse VMDK made into a stream-optimized one, the only VMDK that vSphere imports.

The file is read by its grain tables, one table at a time, and written grain by grain in the order of the disk: memory is bounded by
a grain, a table and the directory of the result (4 bytes for each 32 MiB of disk).  Source: see ``vmdk``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from federation.contract.errors import ImageRejected
from federation_vmware import vmdk
from federation_vmware.vmdk import HEADER, SECTOR, Header
from federation_vmware.vmdk_stream import DIRECTORY, END, FOOTER, MARKER, TABLE

GRAIN = 128
"""Sectors of a grain of the result, and...."""
ENTRIES = 512
"""... entries of its tables: what every reader takes."""
_DESCRIPTOR_SECTORS, _OVERHEAD = 20, 128
_KIND = struct.Struct("<I")
_ZERO_GRAIN = 1
_MAX_OFFSET = 0xFFFFFFFF
"""Sectors that a table can point to."""
_LEVEL = 1
_DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY {sectors} SPARSE "disk.vmdk"

# The Disk Data Base
ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "13"
"""


def read_sparse(file: IO[bytes]) -> tuple[Header, Iterator[tuple[int, bytes]]]:
    """The header, and the disk's pieces that hold anything: the sector of each, and its bytes; ImageRejected if it is wrong."""
    length = file.seek(0, 2)
    file.seek(0)
    header = vmdk.read_header(file.read(SECTOR))
    if header.is_stream:
        raise _wrong(f"it is no {vmdk.SPARSE}")
    text = _exactly(file, header.descriptor_offset, header.descriptor_sectors * SECTOR, length)
    vmdk.check_descriptor(header, text)
    return header, _grains(file, header, length)


def write_stream(
    file: IO[bytes], capacity: int, grains: Iterator[tuple[int, bytes]], tick: Callable[[int], None]
) -> None:
    """Write a stream-optimized disk of ``capacity`` sectors; the pieces come in the order of the disk.

    ``tick`` is told the sector that has been reached, after each grain.
    """
    writer = _Writer(file, capacity)
    for sector, grain in _regrouped(capacity, grains):
        writer.add(sector, grain)
        tick(sector)
    writer.end()


def _grains(file: IO[bytes], header: Header, length: int) -> Iterator[tuple[int, bytes]]:
    covered = header.grain * header.table_entries
    for number in range(-(-header.capacity // covered)):
        [table] = _KIND.unpack(_exactly(file, header.directory, _KIND.size, length, 4 * number))
        if table == 0:
            continue
        entries = struct.unpack(
            f"<{header.table_entries}I", _exactly(file, table, header.table_entries * _KIND.size, length)
        )
        for place, entry in enumerate(entries):
            sector = number * covered + place * header.grain
            if sector >= header.capacity or entry == 0 or (entry == _ZERO_GRAIN and header.flags & vmdk.ZERO_GRAINS):
                continue
            wanted = min(header.grain, header.capacity - sector) * SECTOR
            yield sector, _exactly(file, entry, wanted, length)


def _exactly(file: IO[bytes], sector: int, count: int, length: int, more: int = 0) -> bytes:
    start = sector * SECTOR + more
    if sector == 0 or start + count > length:
        raise _wrong(f"it points to byte {start} and has {length}")
    file.seek(start)
    return file.read(count)


def _regrouped(capacity: int, pieces: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same bytes in grains of the result's size; what is all zero is left out."""
    current, held = -1, bytearray()
    for start, piece in pieces:
        sector, rest = start, memoryview(piece)
        while rest:
            grain = sector - sector % GRAIN
            if grain != current:
                if current >= 0 and any(held):
                    yield current, bytes(held)
                current, held = grain, bytearray(min(GRAIN, capacity - grain) * SECTOR)
            at = (sector - grain) * SECTOR
            count = min(len(rest), len(held) - at)
            held[at : at + count] = rest[:count]
            rest, sector = rest[count:], sector + count // SECTOR
    if current >= 0 and any(held):
        yield current, bytes(held)


class _Writer:
    """Header, description, grains with their tables, directory, footer, end."""

    def __init__(self, file: IO[bytes], capacity: int) -> None:
        self._file = file
        self._capacity = capacity
        self._sector = 0
        self._directory = [0] * -(-capacity // (GRAIN * ENTRIES))
        self._table = [0] * ENTRIES
        self._number = 0
        self._write(self._header(vmdk.GD_AT_END))
        cylinders = min(max(1, capacity // (255 * 63)), 65535)
        text = _DESCRIPTOR.format(sectors=capacity, cylinders=cylinders)
        self._write(text.encode().ljust(_DESCRIPTOR_SECTORS * SECTOR, b"\0"))
        self._write(bytes((_OVERHEAD - self._sector) * SECTOR))

    def add(self, sector: int, grain: bytes) -> None:
        """One grain; they come in the order of the disk."""
        number, place = divmod(sector // GRAIN, ENTRIES)
        if number != self._number:
            self._end_table()
            self._number = number
        self._table[place] = self._sector
        data = zlib.compress(grain, _LEVEL)
        self._write(MARKER.pack(sector, len(data)) + data)

    def end(self) -> None:
        """Tables, footer and the mark that this was all."""
        self._end_table()
        sectors = -(-len(self._directory) * _KIND.size // SECTOR)
        self._mark(DIRECTORY, sectors)
        directory = self._sector
        self._write(struct.pack(f"<{len(self._directory)}I", *self._directory))
        self._mark(FOOTER, 1)
        self._write(self._header(directory))
        self._mark(END, 0)

    def _end_table(self) -> None:
        if any(self._table):
            self._mark(TABLE, ENTRIES * _KIND.size // SECTOR)
            self._directory[self._number] = self._sector
            self._write(struct.pack(f"<{ENTRIES}I", *self._table))
            self._table = [0] * ENTRIES

    def _mark(self, kind: int, sectors: int) -> None:
        self._write(MARKER.pack(sectors, 0) + _KIND.pack(kind))

    def _write(self, data: bytes) -> None:
        """Padded to whole sectors."""
        sectors = -(-len(data) // SECTOR)
        if self._sector + sectors > _MAX_OFFSET:
            raise _wrong("it holds more than the 2 TiB that a stream can have")
        self._file.write(data.ljust(sectors * SECTOR, b"\0"))
        self._sector += sectors

    def _header(self, directory: int) -> bytes:
        flags = vmdk.LINES_TESTED | vmdk.COMPRESSED | vmdk.MARKERS
        packed = HEADER.pack(
            vmdk.MAGIC, 3, flags, self._capacity, GRAIN, 1, _DESCRIPTOR_SECTORS, ENTRIES, 0, directory, _OVERHEAD,
            0, vmdk.LINE_ENDS, vmdk.DEFLATE,
        )  # fmt: skip
        return packed.ljust(SECTOR, b"\0")


def _wrong(told: str) -> ImageRejected:
    return ImageRejected(f"the VMDK cannot be used: {told}", field="format")
