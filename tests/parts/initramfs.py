"""Write a Linux initramfs: a gzipped cpio archive in the `newc` format (kernel: driver-api/early-userspace)."""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass

MAGIC = "070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file, folder or device node; `mode` includes the file type, `device` is (major, minor)."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """A folder that all may enter."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, content: bytes) -> Entry:
    """A file that all may run."""
    return Entry(name, stat.S_IFREG | 0o755, content)


def console() -> Entry:
    """/dev/console, which the kernel opens before it starts init."""
    return Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))


def pack(entries: list[Entry]) -> bytes:
    """The archive, the same bytes for the same entries; folders must precede what lies in them."""
    members = [_member(number, entry) for number, entry in enumerate([*entries, Entry(TRAILER, 0)], 1)]
    return gzip.compress(b"".join(members), compresslevel=6, mtime=0)


def _member(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = [number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(name), 0]
    header = (MAGIC + "".join(f"{field:08x}" for field in fields)).encode()
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
