"""Where parts keep their files, what they remember, and which ports they take.

Everything lies under one folder, `FEDERATION_PARTS_DIR`, by default `driver-federation/parts` in the user's cache.
For root that is `/var/cache` instead: servers drop to users of their own, which cannot enter root's home.
`cache/` holds what is downloaded or built once; `instances/NAME/` holds running servers, where NAME is
`FEDERATION_PARTS_INSTANCE` (default `default`), so that one machine can hold several sets side by side.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Below Linux's range of ephemeral ports, so that no outgoing connection takes a server's port while it is down.
PORTS = range(20_000, 32_000)


class PartMissingError(Exception):
    """A part cannot be brought up here; the message names what is missing."""


def root_folder() -> Path:
    """The folder of all parts, created on first use."""
    chosen = os.environ.get("FEDERATION_PARTS_DIR")
    if chosen:
        folder = Path(chosen).expanduser().resolve()
    elif os.geteuid() == 0:
        folder = Path("/var/cache/driver-federation/parts")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "driver-federation" / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache_folder() -> Path:
    """The folder of what is downloaded or built once and shared by all instances."""
    folder = root_folder() / "cache"
    folder.mkdir(exist_ok=True)
    return folder


def abandoned_instances() -> list[str]:
    """The instances `pytest-…-PID` of test runs that ended without removing them."""
    names = [folder.name for folder in (root_folder() / "instances").glob("pytest-*")]
    return [name for name in names if not Path("/proc", name.rpartition("-")[2]).exists()]


def instance_folder(part: str, instance: str | None = None) -> Path:
    """The folder of one part's servers, in the current instance unless another is named."""
    name = instance or os.environ.get("FEDERATION_PARTS_INSTANCE") or "default"
    folder = root_folder() / "instances" / name / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path, seconds: float = 900) -> Iterator[None]:
    """Hold the file `path` exclusively, so that two starters do not build the same thing.

    Raises PartMissingError when another process holds it longer than `seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        wait_until(lambda: _try_lock(handle.fileno()), seconds, f"another process to release {path}")
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Forget a stopped part, and its instance when it w."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # other parts of the instance are still there
        folder.parent.rmdir()


def read_facts(folder: Path) -> dict[str, Any]:
    """What a part wrote down about itself; empty when it never ran."""
    path = folder / "facts.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Replace what a part wrote down about itself, in one step."""
    partial = folder / f"facts.{os.getpid()}.partial"
    partial.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    partial.replace(folder / "facts.json")


def free_ports(count: int, owner: Path) -> list[int]:
    """`count` different loopback TCP ports that nothing listens on, reserved as long as the folder `owner` exists.

    A reservation outlives the server, so that a stopped broker finds its port free when it comes back.
    """
    with locked(root_folder() / "ports.lock"):
        ledger = root_folder() / "reserved_ports.json"
        known: dict[str, str] = json.loads(ledger.read_text()) if ledger.exists() else {}
        taken = {port: folder for port, folder in known.items() if Path(folder).exists()}
        found: list[int] = []
        while len(found) < count:
            port = secrets.choice(PORTS)
            if str(port) not in taken and _is_free(port):
                taken[str(port)] = str(owner)
                found.append(port)
        ledger.write_text(json.dumps(taken, indent=1))
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], seconds: float, what: str, step: float = 0.1) -> None:
    """Look every `step` seconds until `condition` holds; PartMissingError, naming `what`, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PartMissingError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(step)
