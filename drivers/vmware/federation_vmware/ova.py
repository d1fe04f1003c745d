"""An OVA while it is read: the tar's members one after the other, the OVF's one disk, the manifest's digests.  No I/O of its own.

Source: DMTF DSP0243 (OVF 1.1 and 2.1), section "Distribution": a tar in which the OVF descriptor comes first, the manifest and its
certificate behind it or at the very end, and the files that the descriptor refers to in between.

Rules:

1. One machine with one disk, stream-optimized, neither compressed nor cut into chunks.  Its hardware is the request's; what the OVF
   says of it is not used.
2. With a manifest, the descriptor and the disk have to be in it and every digest has to be right; a file that it lists and that is
   not there is wrong.  Signatures (``.cert``) are not checked: the checksum of the request is what the caller trusts.
3. At most one piece of the file, the descriptor and the manifest are held.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

from federation.contract.errors import ImageRejected

_BLOCK = tarfile.BLOCKSIZE
MAX_OVF, MAX_MANIFEST, MAX_EXTENDED, MAX_MEMBERS = 1 << 20, 256 << 10, 64 << 10, 64
ALGORITHMS = ("sha1", "sha256", "sha512")
_MANIFEST_LINE = re.compile(r"^(SHA1|SHA256|SHA512)\s*\(([^()]{1,255})\)\s*=\s*([0-9A-Fa-f]{40,128})$")
_MAX_DIGITS = 19
_PLAIN = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE})


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar."""
    return start[257:262] == b"ustar"


class Bytes:
    """Pieces of a file, read in whatever portions are wanted."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def some(self, most: int) -> bytes:
        """Up to so many bytes, none at the end."""
        while not len(self._held):
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = memoryview(piece)
        taken, self._held = self._held[:most], self._held[most:]
        return bytes(taken)

    def exactly(self, count: int) -> bytes:
        """So many bytes; ImageRejected when the file ends before."""
        found = bytearray()
        while len(found) < count:
            piece = self.some(count - len(found))
            if not piece:
                raise wrong("it was cut")
            found += piece
        return bytes(found)


class OvaReader:
    """``find_disk`` reads up to the disk, ``disk`` gives its bytes, ``finish`` reads the rest and compares the digests."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._bytes = Bytes(pieces)
        self._manifest: dict[str, tuple[str, str]] | None = None
        self._digests: dict[str, dict[str, str]] = {}
        self._disk = ""
        self._members = 0
        self._padding = 0

    def find_disk(self) -> int:
        """The disk's length in bytes; the next thing to read is the disk."""
        name, size = self._must_have("an OVF descriptor")
        if not name.lower().endswith(".ovf"):
            raise wrong(f"its first file is {name[:80]!r}, expected the OVF descriptor")
        descriptor = self._whole(name, size, MAX_OVF)
        self._disk = disk_of(descriptor)
        while True:
            name, size = self._must_have(f"the disk {self._disk[:80]!r} that its OVF names")
            if name == self._disk:
                return size
            self._pass(name, size)

    def disk(self, size: int) -> Iterator[bytes]:
        """The disk's bytes."""
        yield from self._read(self._disk, size)

    def finish(self) -> None:
        """The rest of the package; ImageRejected when a digest is not the manifest's."""
        while (member := self._next()) is not None:
            self._pass(*member)
        while self._bytes.some(1 << 20):
            continue  # what fills the tar's last record
        if self._manifest is None:
            return
        for name, (algorithm, digest) in self._manifest.items():
            found = self._digests.get(name, {}).get(algorithm)
            if found is None:
                raise wrong(f"its manifest lists {name[:80]!r}, which is not there")
            if found != digest:
                raise wrong(f"{name[:80]!r} has the {algorithm} {found}, its manifest says {digest}")
        for name in self._digests:
            if name not in self._manifest and (name == self._disk or name.lower().endswith(".ovf")):
                raise wrong(f"its manifest does not list {name[:80]!r}")

    def _pass(self, name: str, size: int) -> None:
        if name.lower().endswith(".mf"):
            if self._manifest is not None:
                raise wrong("it has two manifests")
            self._manifest = manifest(self._bytes_of(size, MAX_MANIFEST, name))
        elif name.lower().endswith(".cert"):
            self._bytes_of(size, MAX_MANIFEST, name)
        else:
            for _ in self._read(name, size):
                continue

    def _whole(self, name: str, size: int, most: int) -> bytes:
        content = self._bytes_of(size, most, name)
        self._digests[name] = {algorithm: hashlib.new(algorithm, content).hexdigest() for algorithm in ALGORITHMS}
        return content

    def _bytes_of(self, size: int, most: int, name: str) -> bytes:
        if size > most:
            raise wrong(f"{name[:80]!r} has {size} bytes, at most {most} are read")
        self._padding = -size % _BLOCK
        return self._bytes.exactly(size)

    def _read(self, name: str, size: int) -> Iterator[bytes]:
        """A member's bytes, and afterwards its digests: the manifest's only, or all when it has not come yet."""
        if name in self._digests:
            raise wrong(f"it has two files {name[:80]!r}")
        known = self._manifest
        wanted = ALGORITHMS if known is None else (known[name][0],) if name in known else ()
        digests = {algorithm: hashlib.new(algorithm) for algorithm in wanted}
        left = size
        while left:
            piece = self._bytes.some(min(left, 4 << 20))
            if not piece:
                raise wrong(f"it was cut within {name[:80]!r}")
            for one in digests.values():
                one.update(piece)
            left -= len(piece)
            yield piece
        self._padding = -size % _BLOCK
        self._digests[name] = {algorithm: one.hexdigest() for algorithm, one in digests.items()}

    def _must_have(self, what: str) -> tuple[str, int]:
        found = self._next()
        if found is None:
            raise wrong(f"{what} is not there")
        return found

    def _next(self) -> tuple[str, int] | None:
        """The next member's name and size; None at the end."""
        extended: dict[str, str] = {}
        while True:
            self._bytes.exactly(self._padding)
            self._padding = 0
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise wrong(f"it has more than {MAX_MEMBERS} files")
            header = self._header()
            if header is None:
                return None
            if header.type in {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME}:
                content = self._bytes_of(header.size, MAX_EXTENDED, "an extended header")
                if header.type == tarfile.GNUTYPE_LONGNAME:
                    extended["path"] = content.rstrip(b"\0").decode("utf-8", "replace")
                elif header.type == tarfile.XHDTYPE:
                    extended |= extended_fields(content)
                continue
            return _plain(header, extended)

    def _header(self) -> tarfile.TarInfo | None:
        try:
            header = tarfile.TarInfo.frombuf(self._bytes.exactly(_BLOCK), "utf-8", "replace")
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                return None
            raise wrong(f"its tar cannot be read: {error}") from error
        if header.size < 0:
            raise wrong(f"{header.name[:80]!r} has {header.size} bytes")
        return header


def _plain(header: tarfile.TarInfo, extended: Mapping[str, str]) -> tuple[str, int]:
    name = extended.get("path", header.name).removeprefix("./")
    size = extended.get("size", str(header.size))
    if header.type not in _PLAIN or not name or "/" in name or "\\" in name:
        raise wrong(f"{name[:80]!r} is no plain file at the top of the package")
    if not (size.isascii() and size.isdigit() and len(size) <= _MAX_DIGITS):
        raise wrong(f"{name[:80]!r} has {size[:40]!r} bytes")
    return name, int(size)


def extended_fields(content: bytes) -> dict[str, str]:
    """``path`` and ``size`` of a pax header: records of ``length name=value`` and a line break."""
    found: dict[str, str] = {}
    at = 0
    while at < len(content):
        digits, space, _ = content[at:].partition(b" ")
        if not space or not digits.isdigit() or not 0 < int(digits) <= len(content) - at:
            raise wrong("an extended header of its tar cannot be read")
        record = content[at + len(digits) + 1 : at + int(digits) - 1]
        name, _, value = record.partition(b"=")
        if name in {b"path", b"size"}:
            found[name.decode()] = value.decode("utf-8", "replace")
        at += int(digits)
    return found


def manifest(content: bytes) -> dict[str, tuple[str, str]]:
    """Algorithm and digest of each file that a manifest lists; ImageRejected for a line that cannot be read."""
    found: dict[str, tuple[str, str]] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        match = _MANIFEST_LINE.match(line.strip())
        if match is None:
            raise wrong(f"a line of its manifest cannot be read: {line[:80]!r}")
        algorithm, name, digest = match.groups()
        found[name.removeprefix("./")] = (algorithm.lower(), digest.lower())
    return found


def disk_of(descriptor: bytes) -> str:
    """The name of the file with the one disk of an OVF; ImageRejected names what there is instead."""
    text = descriptor.decode("utf-8", "replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise wrong("its OVF has a document type, which is not read")
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities were refused above
    except (ET.ParseError, ValueError) as error:
        raise wrong(f"its OVF is no XML: {error}") from error
    if _named(root, "VirtualSystemCollection"):
        raise wrong("it holds several machines, one can be made of it")
    disks = [_attributes(one) for one in _named(root, "Disk")]
    if len(disks) != 1:
        raise wrong(f"it has {len(disks)} disks, an image has 1")
    files = {one.get("id", ""): one for one in map(_attributes, _named(root, "File"))}
    file = files.get(disks[0].get("fileRef", ""))
    if file is None or not file.get("href"):
        raise wrong("its disk has no file: it is blank")
    kind = disks[0].get("format", "")
    if "vmdk" not in kind.lower():
        raise wrong(f"its disk's format is {kind[:120]!r}, expected a stream-optimized VMDK")
    if file.get("compression", "identity") not in {"", "identity"} or "chunkSize" in file:
        raise wrong("its disk's file is compressed or cut into chunks")
    if "parentRef" in disks[0]:
        raise wrong("its disk needs a parent disk")
    return file["href"].removeprefix("./")


def _named(root: Any, name: str) -> list[Any]:
    return [one for one in root.iter() if isinstance(one.tag, str) and one.tag.rpartition("}")[2] == name]


def _attributes(element: Any) -> dict[str, str]:
    return {name.rpartition("}")[2]: value for name, value in element.attrib.items()}


def wrong(told: str) -> ImageRejected:
    """The error for a package that cannot be used."""
    return ImageRejected(f"the OVA cannot be used: {told}", field="format")
