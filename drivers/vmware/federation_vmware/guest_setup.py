"""What cloud-init finds: user data and keys in ``guestinfo`` (cloud-init's VMware data source).  Pure.

https://docs.cloud-init.io/en/latest/reference/datasources/vmware.html
"""

from __future__ import annotations

import base64
import json

from federation.contract.instances import GuestSetup


def notes(instance: str, name: str, setup: GuestSetup | None) -> dict[str, str]:
    """The keys of extraConfig; none without a setup."""
    if setup is None:
        return {}
    metadata: dict[str, object] = {"instance-id": instance, "local-hostname": name}
    if setup.ssh_keys:
        metadata["public-keys-data"] = "\n".join(setup.ssh_keys)
    return {
        "guestinfo.metadata": _encoded(json.dumps(metadata, sort_keys=True)),
        "guestinfo.metadata.encoding": "base64",
        "guestinfo.userdata": _encoded(setup.user_data),
        "guestinfo.userdata.encoding": "base64",
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
