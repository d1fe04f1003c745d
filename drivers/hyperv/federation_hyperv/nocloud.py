"""The cloud-init NoCloud medium: an ISO 9660 image labelled ``cidata``.  Pure: texts in, bytes out.

https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import io
import json

import pycdlib

from federation.contract.errors import InvalidRequest
from federation.contract.instances import GuestSetup

LABEL = "cidata"
_EMPTY_USER_DATA = "#cloud-config\n{}\n"


def medium(instance: str, name: str, guest: GuestSetup) -> bytes:
    """The image for one instance; ``instance-id`` is the instance's id, so cloud-init runs once for it."""
    files = {
        "meta-data": meta_data(instance, name, guest.ssh_keys),
        "user-data": guest.user_data or _EMPTY_USER_DATA,
    }
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (path, text) in enumerate(files.items()):
        content = text.encode()
        image.add_fp(
            io.BytesIO(content),
            len(content),
            iso_path=f"/FILE{number}.;1",
            rr_name=path,
            joliet_path=f"/{path}",
        )
    out = io.BytesIO()
    image.write_fp(out)
    image.close()
    return out.getvalue()


def meta_data(instance: str, name: str, ssh_keys: tuple[str, ...]) -> str:
    """The meta-data file.  Values are written as JSON strings, which YAML reads as they are.

    Raises InvalidRequest when an SSH key is not one line: a second line would be a second key.
    """
    lines = [f"instance-id: {json.dumps(instance)}", f"local-hostname: {json.dumps(name)}"]
    if ssh_keys:
        lines.append("public-keys:")
    for number, key in enumerate(ssh_keys):
        if len(key.strip().splitlines()) != 1:
            raise InvalidRequest(f"ssh_keys[{number}] is not one line of an authorized_keys file", field="ssh_keys")
        lines.append(f"  - {json.dumps(key.strip(), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
