"""The files of a machine on its way to another node: found, copied through the worker, and removed.

1. Every disk must be a file in a pool of the settings; pools go by the same name on both nodes.
2. A pool may be one and the same on both nodes (NFS), whatever libvirt calls it.  So before anything is copied or deleted,
   an empty volume is made on the source: where the target sees it, the pool is shared, and nothing in it is touched.
   NFS may show it late.  So a file that has a needed name on the target already is never overwritten nor deleted, unless
   an earlier attempt has noted that it began to copy there.
3. A disk may stand on a cached image.  The target uses its own copy, found by checksum, or gets one.
"""

from __future__ import annotations

import hashlib
import logging
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field

from federation.contract.errors import AlreadyExists, Conflict, InvalidState, NotSupported
from federation_libvirt import device_xml, image_format, moved_xml, names
from federation_libvirt.attempt import Attempt
from federation_libvirt.host import Host
from federation_libvirt.names import CachedFile
from federation_libvirt.removal import remove_files, remove_logs
from federation_libvirt.storage import Pool

logger = logging.getLogger(__name__)

_LOG_BYTES = 2 << 20
"""How much virtlogd lets one log hold by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A disk's file: where it is, what it holds, and the cached image that it stands on."""

    pool: str
    volume: str
    path: str
    target: str
    format: str
    capacity: int
    read_only: bool
    base: CachedFile | None = None


@dataclass(slots=True)
class Transfer:
    """Everything that goes from one node to the other; ``paths`` maps files there to files here once it is there."""

    attempt: Attempt
    source: Host
    target: Host
    instance: str
    items: list[Item]
    boot_files: dict[str, CachedFile]
    shared: frozenset[str] = frozenset()
    paths: dict[str, str] = field(default_factory=dict)

    def find_shared(self) -> None:
        """Find out which pools are the same on both nodes."""
        probe = names.transfer_probe(self.instance)
        pools = {item.pool for item in self.items} | {self.source.disks.name, self.source.console.name}
        self.shared = frozenset(name for name in sorted(pools) if self._is_shared(name, probe))

    def check_free(self) -> None:
        """Raise AlreadyExists when the target has a file of a name that is needed: nobody knows whose it is.

        It may even be the source's own file, if the pool is shared and the target has not yet seen the new volume.
        """
        needed = [(item.pool, item.volume) for item in self._moving()]
        if self.source.console.name not in self.shared:
            needed.append((self.source.console.name, names.console_log(self.instance)))
        for pool, volume in needed:
            if volume in _pool(self.target, pool).volumes():
                raise AlreadyExists(
                    f"{self.target.node}: storage pool {pool} has a volume {volume} already; if it is certain that nobody "
                    "needs it, delete it",
                    volume=volume,
                )

    def clear_target(self) -> None:
        """Delete what an earlier attempt has left on the target."""
        self._remove(self.target)

    def clear_source(self) -> None:
        """Delete what has moved."""
        self._remove(self.source)

    def forget_probes(self) -> None:
        """Delete the volume by which pools were compared, where a crash has left it."""
        for name in sorted({item.pool for item in self.items} | {self.source.disks.name, self.source.console.name}):
            pool, probe = _pool(self.source, name), names.transfer_probe(self.instance)
            if probe in pool.volumes():
                pool.delete(self.attempt, probe)

    def copy(self, *, live: bool) -> None:
        """Put everything on the target; of a running machine, QEMU fills the disks that can be written."""
        for path, cached in self.boot_files.items():
            self.paths[path] = self._cached(cached)
        for number, item in enumerate(self.items):
            self.attempt.progress(80.0 * number / len(self.items), f"copying {item.volume}")
            pool = _pool(self.target, item.pool)
            self.paths[item.path] = f"{pool.folder()}/{item.volume}"
            if item.pool not in self.shared:
                self._copy_disk(item, pool, live=live)
        log = names.console_log(self.instance)
        self.paths[f"{self.source.console.folder()}/{log}"] = f"{self.target.console.folder()}/{log}"
        if self.source.console.name not in self.shared:
            self.target.console.make(self.attempt, log)

    def copy_log(self) -> None:
        """Keep what the guest printed on the source, as an older log."""
        log = names.console_log(self.instance)
        if self.source.console.name in self.shared or log not in self.source.console.volumes():
            return
        text, _ = self.source.console.tail(log, _LOG_BYTES)
        older, _ = (
            self.source.console.tail(f"{log}.0", _LOG_BYTES - len(text)) if len(text) < _LOG_BYTES else (b"", False)
        )
        text = older + text
        if not text:
            return
        if f"{log}.0" in self.target.console.volumes():
            self.target.console.delete(self.attempt, f"{log}.0")
        self.target.console.make(self.attempt, f"{log}.0")
        self.target.console.fill(self.attempt, f"{log}.0", (text,))

    def disks_to_fill(self) -> list[str]:
        """Devices of the disks that QEMU has to copy."""
        return [item.target for item in self._moving() if not item.read_only]

    def _moving(self) -> list[Item]:
        return [item for item in self.items if item.pool not in self.shared]

    def _is_shared(self, name: str, probe: str) -> bool:
        here, there = _pool(self.source, name), _pool(self.target, name)
        if not here.exists():
            return False
        if not there.exists():
            raise InvalidState(
                f"{self.target.node} has no storage pool {name}, or it is not started", pool=name, node=self.target.node
            )
        if probe not in here.volumes():
            here.make(self.attempt, probe)
        there.rescan(self.attempt)
        seen = probe in there.volumes()
        here.delete(self.attempt, probe)
        if seen:
            # It was the same file; libvirt on the target does not know that it is gone.
            there.rescan(self.attempt)
        return seen

    def _copy_disk(self, item: Item, pool: Pool, *, live: bool) -> None:
        base = "" if item.base is None else self._cached(item.base)
        if live and not item.read_only:
            if item.base is None:
                pool.make_like(self.attempt, item.volume, item.capacity, item.format)
            else:
                pool.make_disk(self.attempt, item.volume, item.capacity, (base, item.base.kind))
            return
        pool.make(self.attempt, item.volume)
        content = _pool(self.source, item.pool).content(item.volume)
        pool.fill(self.attempt, item.volume, _rebased(content, base) if base else content)
        pool.rescan(self.attempt)

    def _cached(self, cached: CachedFile) -> str:
        """Path of the cached file on the target, copied there if it has none with this checksum."""
        checksum = names.checksum_of(cached)
        pool = self.target.disks
        for known in names.cached_files(checksum, pool.volumes()):
            if known.kind == cached.kind:
                return f"{pool.folder()}/{known.volume}"
        name = names.cached_content(checksum, self.instance, self.attempt.number)
        if name in pool.volumes():
            pool.delete(self.attempt, name)
        self.attempt.progress(None, "copying the image")
        pool.make(self.attempt, name, shared=True)
        pool.fill(self.attempt, name, _checked(self.source.disks.content(cached.volume), checksum))
        pool.make(self.attempt, names.ready_mark(name, cached.kind, cached.virtual_bytes), shared=True)
        return f"{pool.folder()}/{name}"

    def _remove(self, host: Host) -> None:
        for item in self._moving():
            if not names.belongs_to(self.instance, item.volume):
                _pool(host, item.pool).delete(self.attempt, item.volume)
        if self.source.disks.name not in self.shared:
            remove_files(self.attempt, host, self.instance, console=False)
        if self.source.console.name not in self.shared:
            remove_logs(self.attempt, host, self.instance)


def items_of(host: Host, domain: ET.Element) -> list[Item]:
    """The files behind a domain's disks.  NotSupported, naming the disk, for one that cannot be moved."""
    folders = host.pool_folders()
    return [_item(host, folders, disk) for disk in domain.iterfind("devices/disk") if disk.find("source") is not None]


def boot_files_of(host: Host, domain: ET.Element) -> dict[str, CachedFile]:
    """Kernel and RAM disk by their path; NotSupported when they are not cached files."""
    found = {path: _cached_at(host, path) for path in moved_xml.boot_files(domain)}
    for path, cached in found.items():
        if cached is None:
            raise NotSupported(
                f"{host.node}: it boots from {path}, which is no file of the driver, and cannot be moved"
            )
    return {path: cached for path, cached in found.items() if cached is not None}


def _item(host: Host, folders: dict[str, str], disk: ET.Element) -> Item:
    path, target = device_xml.path_of(disk), device_xml.target_of(disk)
    folder, _, volume = path.rpartition("/")
    pool = folders.get(folder)
    if disk.get("type") != "file" or pool is None:
        raise NotSupported(
            f"{host.node}: disk {target} ({path or disk.get('type')}) lies in no storage pool of the driver's settings and "
            "cannot be moved",
            disk=target,
        )
    described = _pool(host, pool).describe(volume)
    if described is None:
        raise Conflict(f"{host.node}: storage pool {pool} has no volume {volume} any more", volume=volume)
    base = _cached_at(host, described.backing) if described.backing else None
    if described.backing and base is None:
        raise NotSupported(
            f"{host.node}: disk {target} stands on {described.backing}, which only this node has, and cannot be moved",
            disk=target,
        )
    return Item(
        pool=pool,
        volume=volume,
        path=path,
        target=target,
        format=device_xml.format_of(disk),
        capacity=described.capacity,
        read_only=disk.find("readonly") is not None,
        base=base,
    )


def _cached_at(host: Host, path: str) -> CachedFile | None:
    folder, _, volume = path.rpartition("/")
    if folder != host.disks.folder():
        return None
    return names.cached_file(volume, host.disks.volumes())


def _pool(host: Host, name: str) -> Pool:
    return host.console if name == host.console.name else host.pool(name)


def _rebased(content: Iterator[bytes], base: str) -> Iterator[bytes]:
    """A qcow2 file's bytes, standing on another file."""
    head = b""
    for piece in content:
        head += piece
        if len(head) >= image_format.LARGEST_CLUSTER:
            break
    yield image_format.with_backing(head, base)
    yield from content


def _checked(content: Iterator[bytes], checksum: str) -> Iterator[bytes]:
    """The bytes of a cached file; Conflict at the end when they are not what their name says."""
    algorithm, _, expected = checksum.partition(":")
    digest = hashlib.new(algorithm)
    for piece in content:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != expected:
        raise Conflict(f"a cached file with checksum {checksum} has changed on its node: it is {digest.hexdigest()}")
