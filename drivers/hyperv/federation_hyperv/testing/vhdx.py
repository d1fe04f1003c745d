"""VHDX files as MS-VHDX lays them out: small, sparse, and readable by other programs.

File type identifier at 0, two headers at 64 and 128 KiB, two region tables at 192 and 256 KiB, the log at 1 MiB, metadata
at 2 MiB, the block allocation table at 3 MiB.  Disks made here are empty; what other programs wrote into one is kept.
"""

from __future__ import annotations

import os
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

KIB = 1 << 10
MIB = 1 << 20
MAXIMUM_BYTES = 64 << 40
_BAT_REGION = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
_METADATA_REGION = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_FILE_PARAMETERS = uuid.UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_DISK_SIZE = uuid.UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_DISK_ID = uuid.UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
_LOGICAL_SECTOR = uuid.UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_PHYSICAL_SECTOR = uuid.UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
_PARENT_LOCATOR = uuid.UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
_PARENT_TYPE = uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")

_REGION_TABLES = (192 * KIB, 256 * KIB)

FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4


class BadDisk(Exception):
    """The file is no VHDX, or cannot be made as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """What a VHDX says of itself.  ``kind`` is the Type of Msvm_VirtualHardDiskSettingData; sizes are bytes."""

    kind: int
    size_bytes: int
    block_bytes: int = 32 * MIB
    logical_sector: int = 512
    physical_sector: int = 4096
    identifier: str = ""
    parent_path: str = ""
    parent_identifier: str = ""


def write_vhdx(path: Path, facts: DiskFacts) -> DiskFacts:
    """Make an empty disk; BadDisk when the size is not a multiple of the sector or too large."""
    if not 0 < facts.size_bytes <= MAXIMUM_BYTES or facts.size_bytes % facts.logical_sector:
        raise BadDisk(f"a disk cannot have {facts.size_bytes} bytes")
    identifier = facts.identifier or str(uuid.uuid4()).upper()
    made = DiskFacts(
        kind=facts.kind, size_bytes=facts.size_bytes, block_bytes=facts.block_bytes, identifier=identifier,
        logical_sector=facts.logical_sector, physical_sector=facts.physical_sector, parent_path=facts.parent_path,
        parent_identifier=facts.parent_identifier,
    )  # fmt: skip
    bat_bytes = _bat_bytes(made.kind, made.size_bytes, made.block_bytes, made.logical_sector)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"vhdxfile" + "federation".encode("utf-16-le"))
        for number in (1, 2):
            _place(file, number * 64 * KIB, _header(number))
        table = _region_table((3 * MIB, bat_bytes), (2 * MIB, MIB))
        for place in _REGION_TABLES:
            _place(file, place, table)
        _place(file, 2 * MIB, _metadata(made))
        file.truncate(3 * MIB + bat_bytes)
        file.flush()
        os.fsync(file.fileno())
    return made


def read_vhdx(path: Path) -> DiskFacts:
    """Read what a VHDX says of itself; BadDisk when it is none."""
    with path.open("rb") as file:
        if file.read(8) != b"vhdxfile":
            raise BadDisk(f"{path.name} is no VHDX")
        regions = _regions(file)
        if _METADATA_REGION not in regions:
            raise BadDisk(f"{path.name} has no metadata")
        file.seek(regions[_METADATA_REGION][0])
        return _read_metadata(file.read(MIB))


def resize_vhdx(path: Path, size_bytes: int) -> DiskFacts:
    """Give the disk another size, its blocks kept; BadDisk when it would shrink or grow too large."""
    facts = read_vhdx(path)
    if size_bytes < facts.size_bytes:
        raise BadDisk("a disk does not shrink below what it holds")
    if size_bytes > MAXIMUM_BYTES or size_bytes % facts.logical_sector:
        raise BadDisk(f"a disk cannot have {size_bytes} bytes")
    with path.open("r+b") as file:
        regions = _regions(file)
        bat_at, bat_bytes = regions[_BAT_REGION]
        wanted = _bat_bytes(facts.kind, size_bytes, facts.block_bytes, facts.logical_sector)
        if wanted > bat_bytes:
            file.seek(bat_at)
            table = file.read(bat_bytes)
            bat_at = -(-file.seek(0, os.SEEK_END) // MIB) * MIB
            _place(file, bat_at, table)
            file.truncate(bat_at + wanted)
            new_table = _region_table((bat_at, wanted), regions[_METADATA_REGION])
            for place in _REGION_TABLES:
                _place(file, place, new_table)
        _place(file, _item_at(file, regions[_METADATA_REGION][0], _DISK_SIZE), struct.pack("<Q", size_bytes))
    return read_vhdx(path)


def _bat_bytes(kind: int, size_bytes: int, block_bytes: int, sector: int) -> int:
    """MS-VHDX 2.5: an entry for each block, and one for a sector bitmap behind each chunk of blocks."""
    chunk = (1 << 23) * sector // block_bytes
    blocks = -(-size_bytes // block_bytes)
    entries = -(-blocks // chunk) * (chunk + 1) if kind == DIFFERENCING else blocks + (blocks - 1) // chunk
    return -(-entries * 8 // MIB) * MIB


def _regions(file: BinaryIO) -> dict[uuid.UUID, tuple[int, int]]:
    """Where each region begins and how long it is."""
    file.seek(_REGION_TABLES[0])
    table = file.read(64 * KIB)
    (count,) = struct.unpack_from("<I", table, 8)
    return {
        uuid.UUID(bytes_le=table[at : at + 16]): struct.unpack_from("<QI", table, at + 16)
        for at in range(16, 16 + 32 * min(count, 2047), 32)
    }


def _item_at(file: BinaryIO, metadata_at: int, wanted: uuid.UUID) -> int:
    """Where an item of the metadata lies in the file."""
    file.seek(metadata_at)
    table = file.read(64 * KIB)
    for offset in range(32, 32 + 32 * struct.unpack_from("<H", table, 10)[0], 32):
        if uuid.UUID(bytes_le=table[offset : offset + 16]) == wanted:
            return int(metadata_at + struct.unpack_from("<I", table, offset + 16)[0])
    raise BadDisk("the metadata has no such item")


def _place(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at)
    file.write(data)


def _table() -> list[int]:
    found = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        found.append(value)
    return found


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, which VHDX uses."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _header(number: int) -> bytes:
    """MS-VHDX 2.2.2: signature, checksum, sequence number, three GUIDs, versions, where the (empty) log is."""
    body = bytearray(4 * KIB)
    struct.pack_into("<4sIQ", body, 0, b"head", 0, number)
    body[16:32] = uuid.uuid4().bytes_le
    body[32:48] = uuid.uuid4().bytes_le
    struct.pack_into("<HHIQ", body, 64, 0, 1, MIB, MIB)
    struct.pack_into("<I", body, 4, crc32c(bytes(body)))
    return bytes(body)


def _region_table(bat: tuple[int, int], metadata: tuple[int, int]) -> bytes:
    body = bytearray(64 * KIB)
    struct.pack_into("<4sII", body, 0, b"regi", 0, 2)
    for index, (region, (at, length)) in enumerate(((_BAT_REGION, bat), (_METADATA_REGION, metadata))):
        offset = 16 + 32 * index
        body[offset : offset + 16] = region.bytes_le
        struct.pack_into("<QII", body, offset + 16, at, length, 1)
    struct.pack_into("<I", body, 4, crc32c(bytes(body)))
    return bytes(body)


def _metadata(facts: DiskFacts) -> bytes:
    """MS-VHDX 2.6: a table of entries, and the items 64 KiB behind it."""
    flags = (1 if facts.kind == FIXED else 0) | (2 if facts.kind == DIFFERENCING else 0)
    items: list[tuple[uuid.UUID, bytes, int]] = [
        (_FILE_PARAMETERS, struct.pack("<II", facts.block_bytes, flags), 4),
        (_DISK_SIZE, struct.pack("<Q", facts.size_bytes), 6),
        (_DISK_ID, uuid.UUID(facts.identifier).bytes_le, 6),
        (_LOGICAL_SECTOR, struct.pack("<I", facts.logical_sector), 6),
        (_PHYSICAL_SECTOR, struct.pack("<I", facts.physical_sector), 6),
    ]
    if facts.kind == DIFFERENCING:
        items.append((_PARENT_LOCATOR, _locator(facts), 4))
    body = bytearray(MIB)
    struct.pack_into("<8sHH", body, 0, b"metadata", 0, len(items))
    at = 64 * KIB
    for index, (item, data, item_flags) in enumerate(items):
        offset = 32 + 32 * index
        body[offset : offset + 16] = item.bytes_le
        struct.pack_into("<IIII", body, offset + 16, at, len(data), item_flags, 0)
        body[at : at + len(data)] = data
        at += -(-len(data) // 8) * 8
    return bytes(body)


def _locator(facts: DiskFacts) -> bytes:
    linkage = "{" + (facts.parent_identifier or str(uuid.UUID(int=0))).lower() + "}"
    pairs = [("parent_linkage", linkage), ("absolute_win32_path", facts.parent_path)]
    head = _PARENT_TYPE.bytes_le + struct.pack("<HH", 0, len(pairs))
    at = len(head) + 12 * len(pairs)
    entries, strings = b"", b""
    for key, value in pairs:
        k, v = key.encode("utf-16-le"), value.encode("utf-16-le")
        entries += struct.pack("<IIHH", at + len(strings), at + len(strings) + len(k), len(k), len(v))
        strings += k + v
    return head + entries + strings


def _read_metadata(body: bytes) -> DiskFacts:
    (count,) = struct.unpack_from("<H", body, 10)
    items: dict[uuid.UUID, bytes] = {}
    for offset in range(32, 32 + 32 * min(count, 1023), 32):
        at, length = struct.unpack_from("<II", body, offset + 16)
        items[uuid.UUID(bytes_le=body[offset : offset + 16])] = body[at : at + length]
    block_bytes, flags = struct.unpack("<II", items[_FILE_PARAMETERS])
    kind = DIFFERENCING if flags & 2 else FIXED if flags & 1 else DYNAMIC
    locator = _read_locator(items[_PARENT_LOCATOR]) if _PARENT_LOCATOR in items else {}
    return DiskFacts(
        kind=kind, size_bytes=struct.unpack("<Q", items[_DISK_SIZE])[0], block_bytes=block_bytes,
        identifier=str(uuid.UUID(bytes_le=items[_DISK_ID])).upper(),
        logical_sector=struct.unpack("<I", items[_LOGICAL_SECTOR])[0],
        physical_sector=struct.unpack("<I", items[_PHYSICAL_SECTOR])[0],
        parent_path=locator.get("absolute_win32_path", ""),
        parent_identifier=locator.get("parent_linkage", "").strip("{}").upper(),
    )  # fmt: skip


def _read_locator(data: bytes) -> dict[str, str]:
    (count,) = struct.unpack_from("<H", data, 18)
    found = {}
    for index in range(count):
        key_at, value_at, key_length, value_length = struct.unpack_from("<IIHH", data, 20 + 12 * index)
        key = data[key_at : key_at + key_length].decode("utf-16-le")
        found[key] = data[value_at : value_at + value_length].decode("utf-16-le")
    return found
