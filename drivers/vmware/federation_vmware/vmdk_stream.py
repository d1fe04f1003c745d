"""A stream-optimized VMDK, looked through while it passes: every marker, every grain, the end.  Sans-I/O.

At most one grain, its compressed form and the description are held, whatever the file's size.  A file whose header says
that its directory comes at the end has to end with a footer and an end-of-stream marker, so that one that was cut is noticed;
others (``qemu-img`` writes them) have the directory before the grains and end with a grain.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from federation.contract.errors import ImageRejected
from federation_vmware import vmdk
from federation_vmware.vmdk import SECTOR, Header

MARKER = struct.Struct("<QI")
END, TABLE, DIRECTORY, FOOTER = range(4)
"""Types of markers that are not before a grain."""
_KIND = struct.Struct("<I")
_MAX_METADATA = 64 << 20


class StreamChecker:
    """``feed`` takes the file piece by piece, ``finish`` says that this was all; both raise ImageRejected.

    ``header`` is there as soon as the description has been checked; ``grains`` counts the pieces of disk that came.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.grains = 0
        self._first: Header | None = None
        self._buffer = bytearray()
        self._skip = 0
        self._position = 0
        self._ended = False
        self._footer = False
        self._step: Callable[[], bool] = self._read_header

    def feed(self, piece: bytes) -> None:
        """The next bytes of the file."""
        view = memoryview(piece)
        while view:
            taken = min(len(view), SECTOR << 11)
            self._buffer += view[:taken]
            view = view[taken:]
            self._digest()

    def finish(self) -> None:
        """The file has ended; ImageRejected when it should not have."""
        if self.header is None:
            raise _wrong("it ends within its description")
        if self._skip or any(self._buffer):
            raise _wrong(f"it ends in the middle of something, after {self.grains} grains")
        if self.header.directory == vmdk.GD_AT_END and not self._ended:
            raise _wrong(f"it was cut: no end of stream after {self.grains} grains")

    def _digest(self) -> None:
        while True:
            skipped = min(self._skip, len(self._buffer))
            if skipped:
                del self._buffer[:skipped]
                self._skip -= skipped
            if self._skip or not self._step():
                return

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._position += count
        return taken

    def _read_header(self) -> bool:
        if len(self._buffer) < SECTOR:
            return False
        self._first = vmdk.read_header(bytes(self._buffer[:SECTOR]))
        if not self._first.is_stream:
            raise _wrong(f"it is no {vmdk.STREAM}")
        self._step = self._read_descriptor
        return True

    def _read_descriptor(self) -> bool:
        header = self._known()
        start, size = header.descriptor_offset * SECTOR, header.descriptor_sectors * SECTOR
        if len(self._buffer) < start + size:
            return False
        vmdk.check_descriptor(header, bytes(self._buffer[start : start + size]))
        self.header = header
        self._skip = header.overhead * SECTOR
        self._step = self._read_marker
        return True

    def _read_marker(self) -> bool:
        if len(self._buffer) < SECTOR:
            return False
        value, size = MARKER.unpack_from(self._buffer)
        if self._ended:
            if any(self._take(SECTOR)):
                raise _wrong("something comes after its end")
            return True  # qemu-img leaves room
        if size:
            return self._read_grain(value, size)
        [kind] = _KIND.unpack_from(self._buffer, MARKER.size)
        self._take(SECTOR)
        if kind == END:
            if value:
                raise _wrong("an end-of-stream marker has a value")
            self._ended = True
            self._check_footer()
        elif kind == FOOTER:
            self._step = self._read_footer
        elif kind in {TABLE, DIRECTORY}:
            if value * SECTOR > _MAX_METADATA:
                raise _wrong(f"a table of {value} sectors")
            self._skip = value * SECTOR
        else:
            raise _wrong(f"a marker of the unknown type {kind}")
        return True

    def _read_grain(self, sector: int, size: int) -> bool:
        header = self._known()
        if size > 2 * header.grain_bytes + SECTOR:
            raise _wrong(f"a grain of {size} compressed bytes at sector {sector}")
        whole = -(-(MARKER.size + size) // SECTOR) * SECTOR
        if len(self._buffer) < whole:
            return False
        if sector % header.grain or sector >= header.capacity:
            raise _wrong(f"a grain at sector {sector} of {header.capacity}")
        inflated(self._take(whole)[MARKER.size : MARKER.size + size], header, sector)
        self.grains += 1
        if self.grains > -(-header.capacity // header.grain):
            raise _wrong("more grains than the disk has room for")
        return True

    def _read_footer(self) -> bool:
        if len(self._buffer) < SECTOR:
            return False
        footer, header = vmdk.read_header(self._take(SECTOR)), self._known()
        if (footer.capacity, footer.grain) != (header.capacity, header.grain):
            raise _wrong("its footer says something else than its header")
        self._footer = True
        self._step = self._read_marker
        return True

    def _check_footer(self) -> None:
        if self._known().directory == vmdk.GD_AT_END and not self._footer:
            raise _wrong("it ends without a footer")

    def _known(self) -> Header:
        if self._first is None:
            raise _wrong("it has no header")
        return self._first


def inflated(data: bytes, header: Header, sector: int) -> bytes:
    """A grain; ImageRejected unless it has the grain's size, or that of what remains of the disk."""
    inflater = zlib.decompressobj()
    try:
        grain = inflater.decompress(data, header.grain_bytes + 1)
    except zlib.error as error:
        raise _wrong(f"the grain at sector {sector} cannot be decompressed: {error}") from error
    least = min(header.grain, header.capacity - sector) * SECTOR
    if not inflater.eof or not least <= len(grain) <= header.grain_bytes:
        raise _wrong(f"the grain at sector {sector} has not the {least} bytes that it should have")
    return grain


def _wrong(told: str) -> ImageRejected:
    return ImageRejected(f"the VMDK cannot be used: {told}", field="format")
