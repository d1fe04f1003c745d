"""What the cluster's shared storage holds: volumes, templates and uploaded images.  All within a caller's transaction.

Rules:

1. A volume is used by at most one machine; who uses it follows from the machines' disks (``follow``).
2. A template that is still being written cannot be booted from.
3. Whatever is refused is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from federation.contract.errors import AlreadyExists, Conflict, HypervisorRefused, InsufficientResources
from federation.testing.hypervisor.database import Connection
from federation.testing.hypervisor.records import Disk, Machine

VOLUME = "volume"
TEMPLATE = "template"


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A volume or template; ``made_by`` is an operation's id, ``used_by`` a machine's; see Disk for the rest."""

    kind: str
    pool: str
    name: str
    size_bytes: int
    format: str
    made_by: str = ""
    used_by: str | None = None
    generation: int = 0
    content: str = ""
    complete: bool = True


class ImageFile(msgspec.Struct, frozen=True, kw_only=True):
    """What an uploaded image file holds: no blocks, but what they would be."""

    format: str
    virtual_size_bytes: int
    generation: int
    content: str
    made_by: str


_decode = msgspec.json.Decoder(Stored).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def find(connection: Connection, kind: str, pool: str, name: str) -> Stored | None:
    """The volume or template of that name."""
    row = connection.execute(
        "SELECT document FROM stored WHERE kind = ? AND pool = ? AND name = ?", (kind, pool, name)
    ).fetchone()
    return None if row is None else _decode(row[0])


def everything(connection: Connection) -> list[Stored]:
    """All of it, by kind, pool and name."""
    return [_decode(row[0]) for row in connection.execute("SELECT document FROM stored ORDER BY kind, pool, name")]


def keep(connection: Connection, stored: Stored) -> None:
    """Keep it as it is now."""
    connection.execute(
        "INSERT INTO stored (kind, pool, name, document) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (kind, pool, name) DO UPDATE SET document = excluded.document",
        (stored.kind, stored.pool, stored.name, _encode(stored)),
    )


def carry_out(connection: Connection, kind: str, arguments: Mapping[str, Any]) -> None:
    """The part of a changing call that concerns the storage; nothing for the calls that do not."""
    if kind in _CHANGES:
        _CHANGES[kind](connection, arguments)


def follow(connection: Connection, before: Machine | None, after: Machine) -> None:
    """Let the volumes follow the disks of the machine: who uses them, how large they are, what they hold.

    Raises HypervisorRefused when there is no such volume, Conflict when another machine uses it.
    """
    old = {(disk.pool, disk.volume): disk for disk in before.disks if disk.volume} if before else {}
    new = {(disk.pool, disk.volume): disk for disk in after.disks if disk.volume}
    if not (old or new) or old == new:
        return
    changed = [_followed(connection, disk, after.id) for place, disk in new.items() if old.get(place) != disk]
    for pool, name in set(old) - set(new):
        stored = find(connection, VOLUME, pool or "", name or "")
        if stored is not None:
            changed.append(msgspec.structs.replace(stored, used_by=None))
    for stored in changed:
        keep(connection, stored)


def _followed(connection: Connection, disk: Disk, machine: str) -> Stored:
    stored = find(connection, VOLUME, disk.pool or "", disk.volume or "")
    if stored is None:
        raise HypervisorRefused(f"there is no volume {disk.volume} in pool {disk.pool}", volume=disk.volume)
    if stored.used_by not in {None, machine}:
        message = f"volume {disk.volume} in pool {disk.pool} is used by machine {stored.used_by}"
        raise Conflict(message, volume=disk.volume, used_by=stored.used_by)
    return msgspec.structs.replace(
        stored, used_by=machine, size_bytes=disk.size_bytes, generation=disk.generation, content=disk.content
    )


def _make(connection: Connection, arguments: Mapping[str, Any]) -> None:
    stored = msgspec.convert(arguments["stored"], Stored)
    if find(connection, stored.kind, stored.pool, stored.name) is not None:
        raise AlreadyExists(f"{stored.kind} {stored.name} exists already in pool {stored.pool}", name=stored.name)
    check_room(connection, stored.size_bytes, arguments["capacity_bytes"])
    keep(connection, stored)


def check_room(connection: Connection, wanted: int, capacity: int) -> None:
    """Raise InsufficientResources when so many bytes more do not fit; ``capacity`` is that of all pools together."""
    free = capacity - sum(stored.size_bytes for stored in everything(connection))
    if wanted > free:
        message = f"the cluster's storage has {free} bytes free, {wanted} are needed"
        raise InsufficientResources(message, wanted=wanted, there=free)


def _extend(connection: Connection, arguments: Mapping[str, Any]) -> None:
    check_room(connection, arguments["more_bytes"], arguments["capacity_bytes"])


def _publish(connection: Connection, arguments: Mapping[str, Any]) -> None:
    stored = find(connection, TEMPLATE, arguments["pool"], arguments["name"])
    if stored is None:
        raise HypervisorRefused(f"publish_template: there is no template {arguments['name']}")
    keep(connection, msgspec.structs.replace(stored, complete=True))


def _delete(kind: str) -> Callable[[Connection, Mapping[str, Any]], None]:
    def deleting(connection: Connection, arguments: Mapping[str, Any]) -> None:
        stored = find(connection, kind, arguments["pool"], arguments["name"])
        if stored is None:
            raise HypervisorRefused(f"there is no {kind} {arguments['name']} in pool {arguments['pool']}")
        if stored.used_by is not None:
            raise Conflict(f"{kind} {stored.name} is used by machine {stored.used_by}", used_by=stored.used_by)
        connection.execute(
            "DELETE FROM stored WHERE kind = ? AND pool = ? AND name = ?", (kind, stored.pool, stored.name)
        )

    return deleting


def read_image(path: Path) -> tuple[ImageFile, str, int] | None:
    """What the file holds, its checksum as the contract writes it, and its size in bytes; None when it is not there.

    HypervisorRefused when it is there and is no image of ours or cannot be read.
    """
    try:
        content = path.read_bytes()
        image = msgspec.json.decode(content, type=ImageFile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise HypervisorRefused(f"{path.name} cannot be read as an image: {error}") from error
    return image, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)


def _upload(_connection: Connection, arguments: Mapping[str, Any]) -> None:
    path = Path(arguments["path"])
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(_encode(msgspec.convert(arguments["image"], ImageFile)))
        os.replace(temporary, path)  # noqa: PTH105 (the atomic one, by name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise HypervisorRefused(f"{path.name} cannot be written: {error.strerror}") from error


def _unlink(_connection: Connection, arguments: Mapping[str, Any]) -> None:
    try:
        Path(arguments["path"]).unlink(missing_ok=True)
    except OSError as error:
        raise HypervisorRefused(f"the image cannot be removed: {error.strerror}") from error


_CHANGES: dict[str, Callable[[Connection, Mapping[str, Any]], None]] = {
    "make_volume": _make,
    "extend_volume": _extend,
    "delete_volume": _delete(VOLUME),
    "write_template": _make,
    "publish_template": _publish,
    "delete_template": _delete(TEMPLATE),
    "upload_image": _upload,
    "delete_image": _unlink,
}
