"""Disk images as others make them, for tests: by qemu-img, by tarfile, and read back by a reader of the tests' own."""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

SECTOR = 512
OVF = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:href="{name}" ovf:id="file1"{file}/></References>
  <DiskSection><Info>disks</Info>{disks}</DiskSection>
  <VirtualSystem ovf:id="vm"><Info>one machine</Info></VirtualSystem>
</Envelope>"""
DISK = (
    '<Disk ovf:capacity="16" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file1" '
    'ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>'
)


def qemu_img(raw: Path, made: Path, subformat: str) -> bytes:
    """A VMDK that qemu-img makes of a raw disk."""
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", str(raw), str(made)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made.read_bytes()


def stored(content: bytes) -> bytes:
    """The disk in a stream-optimized VMDK, by its grain markers."""
    _, _, _, capacity, _, _, _, _, _, _, overhead = struct.unpack_from("<4sIIQQQQIQQQ", content)
    disk, at = bytearray(capacity * SECTOR), overhead * SECTOR
    while at + SECTOR <= len(content):
        value, size, kind = struct.unpack_from("<QII", content, at)
        if size:
            grain = zlib.decompress(content[at + 12 : at + 12 + size])
            grain = grain[: len(disk) - value * SECTOR]
            disk[value * SECTOR : value * SECTOR + len(grain)] = grain
            at += -(-(12 + size) // SECTOR) * SECTOR
        else:
            at += SECTOR + (value * SECTOR if kind in {1, 2, 3} else 0)
    return bytes(disk)


def ovf(name: str = "disk.vmdk", *, file: str = "", disks: str = DISK) -> bytes:
    """A descriptor of one machine."""
    return OVF.format(name=name, file=file, disks=disks).encode()


def manifest(files: Sequence[tuple[str, bytes]], algorithm: str = "SHA256") -> bytes:
    """The digests of some files."""
    lines = [f"{algorithm}({name})= {hashlib.new(algorithm.lower(), content).hexdigest()}" for name, content in files]
    return "\n".join(lines).encode() + b"\n"


def tar(files: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of files, in order."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=kind) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 1_700_000_000.5 if kind == tarfile.PAX_FORMAT else 1_700_000_000  # type: ignore[assignment]
            archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def ova(disk: bytes, *, signed: str = "first", algorithm: str = "SHA256", kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """A package of one disk, its manifest ``first``, ``last`` or ``none``."""
    files = [("vm.ovf", ovf()), ("disk.vmdk", disk)]
    listed = ("vm.mf", manifest(files, algorithm))
    places = {"first": [files[0], listed, files[1]], "last": [*files, listed], "none": files}
    return tar(places[signed], kind)


def compared(one: Path, other: Path) -> str:
    """What qemu-img says of a raw disk and a VMDK."""
    command = ["qemu-img", "compare", "-f", "raw", "-F", "vmdk", str(one), str(other)]
    return (
        subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout.strip().splitlines()[-1]
    )
