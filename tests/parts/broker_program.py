"""Where RabbitMQ's programs are, and how to run them: installed here, or in a private root of a newer Debian."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from parts.debian import bootstrapped_root
from parts.processes import run
from parts.state import PartMissingError

PROGRAMS = Path("usr/lib/rabbitmq/bin")
LOWEST_MAJOR = 4
DEFAULT_SUITE = "trixie"
# Where a server in a private root sees its folder.
INSIDE = Path("/srv/broker")
ENTER_ROOT = 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --bind "$2" "$1/srv/broker" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class BrokerProgram:
    """RabbitMQ's programs; `root` is the private root they live in, or None for this machine's own."""

    root: Path | None
    version: str

    def seen(self, folder: Path) -> Path:
        """The server's own folder as the server sees it."""
        return INSIDE if self.root else folder

    def command(self, folder: Path, program: str, *arguments: str) -> list[str]:
        """The command line that runs one of RabbitMQ's programs as the server's own user.

        It ends in `exec` all the way, so that the pid started is the program's own. The mounts of a private root
        live in a mount namespace of that process and vanish with it.
        """
        if self.root is None:
            path = f"/{PROGRAMS / program}" if program != "epmd" else "epmd"
            drop = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups"] if os.geteuid() == 0 else []
            return [*drop, path, *arguments]
        path = f"/{PROGRAMS / program}" if program != "epmd" else "/usr/bin/epmd"
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER_ROOT, "sh"]
        leave = ["chroot", "--userspec=rabbitmq:rabbitmq", str(self.root)]
        return [*enter, str(self.root), str(folder), *leave, path, *arguments]

    def give(self, folder: Path) -> None:
        """Make the server's user the owner of its folder (RabbitMQ refuses a cookie of another user)."""
        if os.geteuid() != 0:
            return
        owner, group = self._user()
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, owner, group, follow_symlinks=False)

    def _user(self) -> tuple[int, int]:
        if self.root is None:
            user = pwd.getpwnam("rabbitmq")
            return user.pw_uid, user.pw_gid
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, owner, group = line.split(":")[:4]
            if name == "rabbitmq":
                return int(owner), int(group)
        raise PartMissingError(f"{self.root} has no user rabbitmq: remove that folder and start again")


def find_broker_program() -> BrokerProgram:
    """An installed RabbitMQ of 4.0 or later, else one in a private root.

    FEDERATION_BROKER_SUITE asks for a private root of that Debian suite (`trixie`: 4.0, `sid`: newer) in any case.
    """
    suite = os.environ.get("FEDERATION_BROKER_SUITE")
    if not suite:
        version = _installed_version()
        if version and int(version.split(".")[0]) >= LOWEST_MAJOR:
            return BrokerProgram(None, version)
    root = bootstrapped_root(suite or DEFAULT_SUITE, "rabbitmq-server")
    (root / str(INSIDE)[1:]).mkdir(exist_ok=True)
    status = (root / "var/lib/dpkg/status").read_text()
    found = re.search(r"^Package: rabbitmq-server\n(?:.+\n)*?Version: ([0-9.]+)", status, re.MULTILINE)
    if found is None:
        raise PartMissingError(f"{root} has no rabbitmq-server: remove that folder and start again")
    return BrokerProgram(root, found[1])


def _installed_version() -> str | None:
    if not (Path("/") / PROGRAMS / "rabbitmq-server").exists():
        return None
    return run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]).split("-")[0]
