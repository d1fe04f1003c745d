"""What everything of ours is called on a host.  Pure.

Rules:

1. Whatever belongs to one instance begins with the instance's id, so it is found again after any crash.
2. A cached image is one file that bears its checksum; it gets that name by a rename when it is complete and its checksum
   was right, so whoever finds it may use it.
3. A template is one file that bears its name and the operation that captured it; it gets that name by a rename, too.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable

VHDX = ".vhdx"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CACHED = "cached-"
_TEMPLATE = "template-"
_MAINTENANCE = "maintenance-"
_RESERVED = re.compile(rf"^({_CACHED}|{_TEMPLATE}|{_MAINTENANCE}|{_UUID}[-._])")
SNAPSHOT_ENDINGS = (".avhdx", ".avhd")
"""Files in which Hyper-V keeps what was written since a checkpoint."""


def root_disk(instance: str) -> str:
    """File of the root disk."""
    return f"{instance}-root{VHDX}"


def data_disk(instance: str, number: int) -> str:
    """File of a data disk, counted from 0."""
    return f"{instance}-data{number}{VHDX}"


def guest_setup(instance: str) -> str:
    """File of the cloud-init medium."""
    return f"{instance}-cidata.iso"


def fetching(instance: str, operation: str, attempt: int) -> str:
    """File of an image that is being fetched for an instance; no two writers ever share one."""
    return f"{instance}-fetch-{operation}.{attempt}{VHDX}"


def capturing(instance: str, operation: str) -> str:
    """File of a copy of the root disk on its way to become a template or to a URL."""
    return f"{instance}-capture-{operation}{VHDX}"


def belongs_to(instance: str, file: str) -> bool:
    """Whether a file is one instance's own and goes with it; Hyper-V's checkpoint files carry the disk's name on."""
    return file.lower().startswith((f"{instance}-", f"{instance}.", f"{instance}_"))


def cached(checksum: str) -> str:
    """File of a complete image of that checksum (``algorithm:hexdigest``)."""
    return f"{_CACHED}{checksum.replace(':', '-')}{VHDX}"


def template(name: str, operation: str) -> str:
    """File of a captured template."""
    return f"{_TEMPLATE}{name}.{operation}{VHDX}"


def templates(name: str, files: Iterable[str]) -> list[str]:
    """The files of that template, captured or put there by an operator, in the order of their names; mostly one or none.

    Windows compares names without regard to case.
    """
    wanted = re.compile(rf"^{_TEMPLATE}{re.escape(name)}(\.{_UUID})?{re.escape(VHDX)}$", re.IGNORECASE)
    return sorted(file for file in files if wanted.match(file))


def volume(name: str) -> str:
    """File of a volume."""
    return name if name.lower().endswith((VHDX, ".vhd")) else f"{name}{VHDX}"


def volume_name(file: str) -> str | None:
    """The volume that a file holds; None for files whose names the driver gives."""
    if reserved(file) or file.lower().endswith(SNAPSHOT_ENDINGS):
        return None
    return file.removesuffix(VHDX)


def reserved(file: str) -> bool:
    """Whether a name is one that the driver gives; nobody may attach, boot from or delete such a file as a volume."""
    return bool(_RESERVED.match(file.lower()))


def maintenance_mark(cluster: str) -> str:
    """The empty disk that says that a host takes no new instances of the cluster."""
    return f"{_MAINTENANCE}{hashlib.sha256(cluster.encode()).hexdigest()[:16]}{VHDX}"


def mac_address(identity: str, number: int) -> str:
    """A MAC address derived from an instance's or operation's id, below the prefix that Microsoft has for Hyper-V."""
    digest = hashlib.sha256(f"{identity}/{number}".encode()).digest()
    return "00:15:5d:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def same(first: str, second: str) -> bool:
    """Whether two Windows paths name one file."""
    return first.replace("/", "\\").casefold() == second.replace("/", "\\").casefold()


def join(folder: str, file: str) -> str:
    """The path of a file in a folder."""
    return f"{folder}\\{file}"


def split(path: str) -> tuple[str, str]:
    """Folder and file of a path."""
    folder, _, file = path.replace("/", "\\").rpartition("\\")
    return folder, file


def guid(text: str) -> str | None:
    """A UUID as the contract has it, from what Hyper-V writes (upper case, perhaps in braces); None when it is none."""
    try:
        return str(uuid.UUID(text.strip().strip("{}")))
    except ValueError:
        return None


def bios_guid(instance: str) -> str:
    """An id as Hyper-V writes it into BIOSGUID."""
    return "{" + instance.upper() + "}"
