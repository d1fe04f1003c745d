"""machines.py NAME: makes a machine NAME-CLUSTER in every cluster of the demonstration, and shows all machines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from click import ClickException

from federation.cli.main import root
from federation.contract.errors import InsufficientResources, NotSupported, Unavailable

IMAGES = Path("/srv/images")
# Each hypervisor takes the format of its own.
CLUSTERS = {"kvm": "qcow2", "vsphere": "raw", "hyperv": "vhdx", "lab": "qcow2"}
# Not supported is what a cluster answers that never had a worker, because nobody knows what its driver can do.
NOT_YET = frozenset({InsufficientResources.code, NotSupported.code, Unavailable.code})
PATIENCE_SECONDS = 120.0


def checksums() -> dict[str, str]:
    """The checksum of each image, by its file's name."""
    lines = (IMAGES / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: f"sha256:{digest}" for digest, name in (line.split() for line in lines)}


def make(name: str, cluster: str, image: str, checksum: str) -> None:
    """Make a machine and wait for it; a cluster whose workers are just starting gets some time."""
    given = ["--cluster", cluster, "--vcpus", "1", "--memory", "128MiB", "--image", (IMAGES / image).as_uri()]
    given += ["--format", CLUSTERS[cluster], "--checksum", checksum]
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            status = root(["instance", "create", f"{name}-{cluster}", *given], standalone_mode=False)
        except ClickException as error:
            code = getattr(getattr(error, "error", None), "code", None)
            if code not in NOT_YET or time.monotonic() > ends:
                raise
            time.sleep(1.0)
        else:
            if status:
                sys.exit(status)
            return


def main(name: str) -> None:
    """Raise click's exceptions, which say what is wrong."""
    known = checksums()
    for cluster, kind in CLUSTERS.items():
        make(name, cluster, f"guest.{kind}", known[f"guest.{kind}"])
    root(["instance", "list"], standalone_mode=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
