"""An image of the format ``vmdk``, opened: what it is, how large its disk is, and the stream that vSphere imports.

``opened`` looks at the first bytes: a stream-optimized VMDK and the one in an OVA are handed on as they come, checked on the way; a
monolithic sparse one is fetched into a nameless file of the worker first, and made into a stream there.  Whatever is wrong, the
checksum of the request included, is known before the last byte has been asked for or right behind it.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any, Protocol, cast

from federation.contract.errors import ImageRejected, ImageUnavailable, InsufficientResources
from federation.contract.instances import BootImage
from federation_vmware import ova, vmdk_sparse
from federation_vmware.attempt import Attempt
from federation_vmware.images import CHUNK_BYTES, Expected, Reading
from federation_vmware.settings import ImageRules
from federation_vmware.vmdk import SECTOR, read_header
from federation_vmware.vmdk_stream import StreamChecker

_FETCHED, _CONVERTED = 10.0, 20.0


class DiskImage(Protocol):
    """A disk on its way: ``capacity_bytes`` as its guest sees it, ``length`` of what is sent."""

    capacity_bytes: int
    length: int

    def pieces(self) -> Iterator[bytes]:
        """The stream-optimized VMDK; ImageUnavailable or ImageRejected behind the last piece at the latest."""


@contextlib.contextmanager
def opened(boot: BootImage, rules: ImageRules, attempt: Attempt) -> Iterator[DiskImage]:
    """The image, read as far as is needed to say what it is; ImageUnavailable or ImageRejected when it cannot be used."""
    reading = Reading(Expected(boot.url, boot.checksum, boot.format), rules, attempt.sleep)
    with contextlib.ExitStack() as open_files:
        chunks = open_files.enter_context(contextlib.closing(cast("Generator[bytes, None, None]", reading.chunks())))
        first = next(chunks, b"")
        whole = itertools.chain((first,), chunks)
        if ova.is_tar(first):
            yield _check_size(_Packed(whole), boot)
        elif read_header(first[:SECTOR]).is_stream:
            yield _check_size(_Streamed(reading, whole), boot)
        else:
            spool = open_files.enter_context(_spooling(rules))
            yield _check_size(_Converted(whole, spool, attempt, reading), boot)


class _Streamed:
    """A stream-optimized VMDK."""

    def __init__(self, reading: Reading, chunks: Iterator[bytes]) -> None:
        if reading.announced is None:
            raise ImageUnavailable("the image's server does not say how long the image is", field="url")
        self.length = reading.announced
        self._checked = _Checked(chunks)
        self.capacity_bytes = self._checked.capacity_bytes

    def pieces(self) -> Iterator[bytes]:
        """The file as it is."""
        return self._checked.pieces()


class _Packed:
    """The disk in an OVA."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._reader = ova.OvaReader(chunks)
        self.length = self._reader.find_disk()
        self._checked = _Checked(self._reader.disk(self.length))
        self.capacity_bytes = self._checked.capacity_bytes

    def pieces(self) -> Iterator[bytes]:
        """The disk, and then the rest of the package, whose digests are compared."""
        yield from self._checked.pieces()
        self._reader.finish()


class _Checked:
    """Pieces of a stream-optimized VMDK that are looked through; those that its size stands in are held at first."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._checker = StreamChecker()
        self._held: list[bytes] = []
        self._rest = pieces
        for piece in pieces:
            self._held.append(piece)
            self._checker.feed(piece)
            if self._checker.header is not None:
                break
        if self._checker.header is None:
            self._checker.finish()
            raise ImageRejected("the VMDK cannot be used: it ends within its description", field="format")
        self.capacity_bytes = self._checker.header.capacity_bytes

    def pieces(self) -> Iterator[bytes]:
        """All of it; ImageRejected as soon as something is wrong."""
        while self._held:
            yield self._held.pop(0)
        for piece in self._rest:
            self._checker.feed(piece)
            yield piece
        self._checker.finish()


class _Converted:
    """A monolithic sparse VMDK: fetched, its checksum compared, made into a stream; nothing of it is at vCenter before."""

    def __init__(self, chunks: Iterator[bytes], spool: _Spool, attempt: Attempt, reading: Reading) -> None:
        fetched, self._stream = spool.file(), spool.file()
        for chunk in chunks:
            attempt.sleep(0)  # a cancel ends it
            spool.write(fetched, chunk)
            if reading.announced:
                attempt.progress(_FETCHED * reading.length / reading.announced, "fetching the image")
        header, grains = vmdk_sparse.read_sparse(fetched)
        self.capacity_bytes = header.capacity_bytes

        def tick(sector: int) -> None:
            attempt.sleep(0)
            attempt.progress(_FETCHED + (_CONVERTED - _FETCHED) * sector / header.capacity, "converting the image")

        spool.run(lambda: vmdk_sparse.write_stream(self._stream, header.capacity, grains, tick))
        self.length = self._stream.tell()

    def pieces(self) -> Iterator[bytes]:
        """The stream that was made."""
        self._stream.seek(0)
        while piece := self._stream.read(CHUNK_BYTES):
            yield piece


class _Spool:
    """Nameless files in the worker's spool directory: they are gone with the process, however it ends."""

    def __init__(self, rules: ImageRules, files: contextlib.ExitStack) -> None:
        self._folder = rules.spool_directory or tempfile.gettempdir()
        self._files = files

    def file(self) -> IO[bytes]:
        """An empty file."""

        def make() -> IO[bytes]:
            return self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))

        file: IO[bytes] = self.run(make)
        return file

    def write(self, file: IO[bytes], content: bytes) -> None:
        """Append; InsufficientResources when the worker's disk is full."""
        self.run(lambda: file.write(content))

    def run(self, work: Callable[[], Any]) -> Any:
        """Work on the files; InsufficientResources says which folder is full or cannot be written."""
        try:
            return work()
        except OSError as error:
            told = f"the worker's spool directory {self._folder} cannot take the image: {error.strerror}"
            raise InsufficientResources(told, setting="images.spool_directory") from error


@contextlib.contextmanager
def _spooling(rules: ImageRules) -> Iterator[_Spool]:
    with contextlib.ExitStack() as files:
        yield _Spool(rules, files)


def _check_size(image: DiskImage, boot: BootImage) -> DiskImage:
    if boot.size_bytes is not None and boot.size_bytes < image.capacity_bytes:
        raise ImageRejected(
            f"the image needs a disk of {image.capacity_bytes} bytes, the request says {boot.size_bytes}",
            field="size_bytes",
            found=image.capacity_bytes,
            expected=boot.size_bytes,
        )
    return image
