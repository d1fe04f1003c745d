"""What things of ours are called on a datastore, and addresses derived from ids.  Pure."""

from __future__ import annotations

import hashlib
import re

from federation.contract.errors import InvalidRequest

_PATH = re.compile(r"^\[(?P<datastore>[^\]]+)\] ?(?P<path>.*)$", re.DOTALL)


def volume_path(datastore: str, folder: str, volume: str) -> str:
    """The datastore path of a volume: below ``folder``, or where the name itself says when it has a slash in it.

    InvalidRequest when the name leads out of its datastore.
    """
    parts = volume.split("/")
    strange = volume.startswith("[") or "\\" in volume or any(ord(one) < ord(" ") for one in volume)
    if strange or any(part in {"", ".", ".."} for part in parts):
        raise InvalidRequest(f"volume {volume!r} is no path below its datastore", field="volume", value=volume)
    path = volume if len(parts) > 1 else f"{folder}/{volume}"
    return f"[{datastore}] {path}" if path.endswith(".vmdk") else f"[{datastore}] {path}.vmdk"


def split(path: str) -> tuple[str, str]:
    """Datastore and path of ``[datastore] path``; both empty when it is none."""
    match = _PATH.match(path)
    return (match["datastore"], match["path"]) if match else ("", "")


def mac_address(identity: str, number: int) -> str:
    """A MAC address derived from an id, in VMware's range for addresses that are given by hand."""
    digest = hashlib.sha256(f"{identity}/{number}".encode()).digest()
    return f"00:50:56:{digest[0] & 0x3F:02x}:{digest[1]:02x}:{digest[2]:02x}"
