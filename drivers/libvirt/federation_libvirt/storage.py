"""One storage pool of one host: volumes made, filled, read and deleted through libvirt, so remote hosts work too."""

from __future__ import annotations

import logging
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from federation.contract.errors import HypervisorRefused, InvalidState, NotSupported, OperationError
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import VOLUME_PHYSICAL, Link, Native
from federation_libvirt.domain_xml import parse
from federation_libvirt.faults import code_of
from federation_libvirt.waiting import Watch

logger = logging.getLogger(__name__)

FILE_POOLS = frozenset({"dir", "fs", "netfs"})
"""Pool types whose volumes are files."""
_POOL_IDS = uuid.UUID("6d0c5c0e-9a0c-5b8e-9a0e-0d3f6a1c7b42")
_MODE_SHARED = "0644"
_MODE_OWN = "0600"
_MODES = {True: "0444", False: _MODE_OWN}
_BUILDING_SECONDS = 60.0
_STARTING_SECONDS = 10.0
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDescription:
    """A volume: bytes of the disk in it, its format, and the path of the file that it stands on, if any."""

    capacity: int
    format: str
    backing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A volume to copy from, and the format in which it is used."""

    pool: Pool
    name: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A copy to make: of what, under which name, in which format; a ``template`` can be read by all and written by none."""

    source: Source
    name: str
    format: str
    template: bool = False


class Pool:
    """A storage pool by name; ``directory`` is where it is made when the host has none of that name."""

    def __init__(self, link: Link, name: str, directory: str) -> None:
        self.name = name
        self._link = link
        self._name = name
        self._directory = directory

    def prepare(self, attempt: Attempt) -> None:
        """Make and start the pool where it is missing.  NotSupported when it is there and its volumes are no files."""
        what = f"find storage pool {self._name}"
        described = self._link.find(what, self._describe, missing="VIR_ERR_NO_STORAGE_POOL")
        if described is None:
            # The id is derived from the name, so two workers that do this at the same time define the same pool.
            self._link.change(attempt, f"define {self._name}", lambda c: c.storagePoolDefineXML(self._definition()))
        elif described[0] not in FILE_POOLS:
            raise NotSupported(
                f"{self._link.node}: storage pool {self._name} is of type {described[0]}; supported: dir, fs, netfs"
            )
        if described is None or not described[1]:
            self._start(attempt)

    def folder(self) -> str:
        """The directory on the host in which volumes lie."""
        pool = self._link.read(f"read storage pool {self._name}", lambda c: parse(self._find(c).XMLDesc()))
        return pool.findtext("target/path", self._directory)

    def exists(self) -> bool:
        """Whether the host has the pool, started."""
        return self.kind() is not None

    def kind(self) -> str | None:
        """The pool's type as libvirt names it, None when the pool is missing or stopped."""
        what = f"find storage pool {self._name}"
        described = self._link.find(what, self._describe, missing="VIR_ERR_NO_STORAGE_POOL")
        return described[0] if described is not None and described[1] else None

    def volumes(self) -> list[str]:
        """Names of all volumes; none when the pool is missing or stopped."""
        if not self.exists():
            return []
        names: list[str] = self._link.read(f"list {self._name}", lambda c: self._find(c).listVolumes())
        return names

    def space(self) -> tuple[int, int]:
        """Bytes in all, and bytes in use; zeros when the pool is missing or stopped."""
        if not self.exists():
            return 0, 0
        _, capacity, _, available = self._link.read(f"measure {self._name}", lambda c: self._find(c).info())
        return int(capacity), int(capacity - available)

    def make(self, attempt: Attempt, name: str, *, shared: bool = False) -> None:
        """Make an empty file; ``shared`` ones may be read by every virtual machine of the host."""
        self._make(attempt, name, _volume(name, 0, "raw", _MODE_SHARED if shared else _MODE_OWN))

    def make_disk(self, attempt: Attempt, name: str, size_bytes: int, backing: tuple[str, str] | None = None) -> None:
        """Make a qcow2 disk, blank or on top of ``backing`` (path on the host and format)."""
        volume = _volume(name, size_bytes, "qcow2", _MODE_OWN)
        if backing is not None:
            node = ET.SubElement(volume, "backingStore")
            ET.SubElement(node, "path").text = backing[0]
            ET.SubElement(node, "format", type=backing[1])
        self._make(attempt, name, volume)

    def fill(self, attempt: Attempt, name: str, chunks: Iterable[bytes]) -> None:
        """Write a volume's content, asking for leave before every chunk."""
        what = f"write volume {name}"
        stream = self._link.change(attempt, what, lambda c: _begin_upload(c, self._find(c), name))
        try:
            for chunk in chunks:
                self._link.change(attempt, what, partial(_send, stream, chunk))
            self._link.change(attempt, what, lambda _: stream.finish())
        except BaseException:
            # An open stream would hold the volume; ending it changes nothing that was written.
            self._abort(stream, what)
            raise

    def delete(self, attempt: Attempt, name: str, building_seconds: float = _BUILDING_SECONDS) -> None:
        """Delete a volume; one that is not there is deleted already, one that is being made is waited for."""
        end = time.monotonic() + building_seconds
        while True:
            try:
                self._link.change(
                    attempt, f"delete volume {name}", lambda c: self._find(c).storageVolLookupByName(name).delete(0)
                )
            except InvalidState as error:
                # "volume is still being allocated": an earlier attempt's call is still at it.
                if time.monotonic() > end:
                    raise HypervisorRefused(error.message, **error.detail) from error
                attempt.sleep(0.2)
            except OperationError as error:
                if code_of(error) != "VIR_ERR_NO_STORAGE_VOL":
                    raise
                return
            else:
                return

    def tail(self, name: str, limit: int) -> tuple[bytes, bool]:
        """The last ``limit`` bytes of a volume, and whether there is more before them; nothing when it is not there."""
        found = self._link.find(
            f"read volume {name}", lambda c: _tail(c, self._find(c), name, limit), missing="VIR_ERR_NO_STORAGE_VOL"
        )
        return found or (b"", False)

    def capacity(self, name: str) -> int | None:
        """Bytes of the disk in a volume as libvirt sees it, None when the volume is not there."""
        found: int | None = self._link.find(
            f"measure volume {name}",
            lambda c: int(self._find(c).storageVolLookupByName(name).info()[1]),
            missing="VIR_ERR_NO_STORAGE_VOL",
        )
        return found

    def describe(self, name: str) -> VolumeDescription | None:
        """What libvirt reads in a volume, None when it is not there."""
        text = self._link.find(
            f"read volume {name}",
            lambda c: str(self._find(c).storageVolLookupByName(name).XMLDesc()),
            missing="VIR_ERR_NO_STORAGE_VOL",
        )
        return None if text is None else _described(parse(text))

    def content(self, name: str) -> Iterator[bytes]:
        """A volume's bytes, piece by piece, each asked for with the limit of a question."""
        what = f"read volume {name}"
        stream = self._link.read(what, lambda c: _begin_download(c, self._find(c), name))
        try:
            while piece := self._link.read(what, lambda _: bytes(stream.recv(_PIECE))):
                yield piece
            self._link.read(what, lambda _: stream.finish())
        except BaseException:
            self._abort(stream, what)
            raise

    def make_like(self, attempt: Attempt, name: str, size_bytes: int, kind: str) -> None:
        """Make a blank disk of that format, ``raw`` or ``qcow2``."""
        self._make(attempt, name, _volume(name, size_bytes, kind, _MODE_OWN))

    def length(self, name: str) -> int | None:
        """Bytes of a volume's file, None when it is not there."""
        found: int | None = self._link.find(
            f"measure volume {name}",
            lambda c: int(self._find(c).storageVolLookupByName(name).infoFlags(VOLUME_PHYSICAL)[2]),
            missing="VIR_ERR_NO_STORAGE_VOL",
        )
        return found

    def clone(self, attempt: Attempt, wanted: Clone, tell: Callable[[], None], seconds: float) -> None:
        """Copy a disk into a new volume that stands on no other file; ``tell`` is called while it lasts.

        When ``tell`` ends the operation, the copy goes on if the node has begun it; ``delete`` waits for its end.
        """
        source, volume = wanted.source, _volume(wanted.name, 0, wanted.format, _MODES[wanted.template])
        text = ET.tostring(volume, encoding="unicode")

        def copy(connection: Native) -> None:
            original = source.pool._find(connection).storageVolLookupByName(source.name)  # noqa: SLF001 - another Pool
            self._find(connection).createXMLFrom(text, original, 0)

        what = f"copy volume {source.name} to {wanted.name}"
        self._link.change(
            attempt,
            what,
            copy,
            seconds=seconds,
            watch=Watch(tell, lambda: self.length(wanted.name) is not None),
        )

    def resize(self, attempt: Attempt, name: str, size_bytes: int) -> None:
        """Make the disk in a volume that no running machine uses larger."""
        self._link.change(
            attempt,
            f"resize volume {name}",
            lambda c: self._find(c).storageVolLookupByName(name).resize(size_bytes, 0),
        )

    def rescan(self, attempt: Attempt) -> None:
        """Let libvirt see files that others made, such as rotated logs."""
        if self.exists():
            self._link.change(attempt, f"refresh {self._name}", lambda c: self._find(c).refresh(0))

    def _start(self, attempt: Attempt) -> None:
        try:
            self._link.change(attempt, f"build {self._name}", lambda c: self._find(c).build(0))
            self._link.change(attempt, f"start {self._name}", lambda c: self._find(c).create(0))
        except InvalidState:
            # Another worker is at it or has done it.
            self._wait_started(attempt)
        self._link.change(attempt, f"autostart {self._name}", lambda c: self._find(c).setAutostart(1))

    def _wait_started(self, attempt: Attempt) -> None:
        end = time.monotonic() + _STARTING_SECONDS
        while not self.exists():
            if time.monotonic() > end:
                raise HypervisorRefused(f"{self._link.node}: storage pool {self._name} does not start", pool=self._name)
            attempt.sleep(0.2)

    def _make(self, attempt: Attempt, name: str, volume: ET.Element) -> None:
        text = ET.tostring(volume, encoding="unicode")
        self._link.change(attempt, f"make volume {name}", lambda c: self._find(c).createXML(text, 0))

    def _abort(self, stream: Native, what: str) -> None:
        try:
            self._link.read(what, lambda _: stream.abort())
        except OperationError:
            logger.info("%s: the stream had ended by itself", what, exc_info=True)

    def _find(self, connection: Native) -> Native:
        return connection.storagePoolLookupByName(self._name)

    def _describe(self, connection: Native) -> tuple[str, bool]:
        pool = self._find(connection)
        return parse(pool.XMLDesc()).get("type", ""), bool(pool.isActive())

    def _definition(self) -> str:
        pool = ET.Element("pool", type="dir")
        ET.SubElement(pool, "name").text = self._name
        ET.SubElement(pool, "uuid").text = str(uuid.uuid5(_POOL_IDS, self._name))
        target = ET.SubElement(pool, "target")
        ET.SubElement(target, "path").text = self._directory
        # Others may pass through to a file whose name they know, not list the directory.
        ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = "0711"
        return ET.tostring(pool, encoding="unicode")


def _volume(name: str, size_bytes: int, kind: str, mode: str) -> ET.Element:
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = name
    ET.SubElement(volume, "capacity", unit="bytes").text = str(size_bytes)
    ET.SubElement(volume, "allocation", unit="bytes").text = "0"
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", type=kind)
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = mode
    if kind == "qcow2":
        ET.SubElement(target, "compat").text = "1.1"
    return volume


def _described(volume: ET.Element) -> VolumeDescription:
    kind = volume.find("target/format")
    return VolumeDescription(
        capacity=int(volume.findtext("capacity", "0")),
        format="raw" if kind is None else kind.get("type", "raw"),
        backing=volume.findtext("backingStore/path", ""),
    )


def _begin_download(connection: Native, pool: Native, name: str) -> Native:
    stream = connection.newStream(0)
    pool.storageVolLookupByName(name).download(stream, 0, 0, 0)
    return stream


def _begin_upload(connection: Native, pool: Native, name: str) -> Native:
    stream = connection.newStream(0)
    pool.storageVolLookupByName(name).upload(stream, 0, 0, 0)
    return stream


def _send(stream: Native, chunk: bytes, _connection: Native) -> None:
    view = memoryview(chunk)
    while view:
        view = view[stream.send(bytes(view[:262144])) :]


def _tail(connection: Native, pool: Native, name: str, limit: int) -> tuple[bytes, bool]:
    volume = pool.storageVolLookupByName(name)
    size = volume.info()[1]
    start = max(0, size - limit)
    if size == 0:
        return b"", False
    stream = connection.newStream(0)
    volume.download(stream, start, size - start, 0)
    pieces = []
    while piece := stream.recv(262144):
        pieces.append(piece)
    stream.finish()
    return b"".join(pieces), start > 0
