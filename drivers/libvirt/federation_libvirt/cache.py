"""Cached files on a host: fetched once, checked by checksum, shared by every instance that names the same checksum.

There is no lock: two creations that miss at the same time fetch twice, each under a name of its own.  Complete files are
never changed and never deleted by the driver, because another instance's disk may stand on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from federation_libvirt import image_format, names
from federation_libvirt.attempt import Attempt
from federation_libvirt.images import Expected, Reading
from federation_libvirt.settings import ImageRules
from federation_libvirt.storage import Pool

PLAIN = "file"
"""Kind of a cached file that is no disk: a kernel or a RAM disk."""


@dataclass(frozen=True, slots=True)
class Cached:
    """A complete file on the host; ``virtual_bytes`` is the size of the disk in it (of the file, when it is no disk)."""

    path: str
    virtual_bytes: int


def obtain(attempt: Attempt, pool: Pool, rules: ImageRules, instance: str, expected: Expected) -> Cached:
    """The cached file with this checksum, fetched when the host has none.

    Raises ImageUnavailable, ImageRejected, InvalidRequest (not allowed), or what the host says.  What was begun and not
    finished is found again by ``names.unfinished_fetches``.
    """
    for file in names.cached_files(expected.checksum, pool.volumes()):
        if file.kind == _kind(expected):
            return Cached(f"{pool.folder()}/{file.volume}", file.virtual_bytes)
    return _fetch(attempt, pool, Reading(expected, rules, attempt.sleep), _place(attempt, pool, instance, expected))


def _kind(expected: Expected) -> str:
    return PLAIN if expected.format is None else expected.format.value


def _place(attempt: Attempt, pool: Pool, instance: str, expected: Expected) -> str:
    """The name to fetch under, with nothing there: this attempt may have begun before its connection was lost."""
    name = names.cached_content(expected.checksum, instance, attempt.number)
    if name in pool.volumes():
        pool.delete(attempt, name)
    return name


def _fetch(attempt: Attempt, pool: Pool, reading: Reading, name: str) -> Cached:
    chunks = reading.chunks()
    first = next(chunks, b"")
    # Before a volume is made: the wrong format shows in the first bytes.
    _size(reading.expected, first, reading.announced or len(first))
    pool.make(attempt, name, shared=True)
    pool.fill(attempt, name, _told(attempt, reading, chain((first,), chunks)))
    size = _size(reading.expected, first, reading.length)
    pool.make(attempt, names.ready_mark(name, _kind(reading.expected), size), shared=True)
    return Cached(f"{pool.folder()}/{name}", size)


def _size(expected: Expected, first: bytes, length: int) -> int:
    if expected.format is None:
        return length
    return image_format.virtual_size(first[: image_format.HEAD_BYTES], length, expected.format)


def _told(attempt: Attempt, reading: Reading, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        share = 100 * reading.length / reading.announced if reading.announced else None
        attempt.progress(share and min(share, 100.0), "fetching the image")
        yield chunk
