"""A container engine: the one that this machine has, else Debian's, with all its files in a folder of our own.

Ours is dockerd with Compose v2 and BuildKit of Debian 13, which need no newer C library than Debian 12's, except runc, which
comes from this machine's own release.  It needs root, a kernel with overlayfs, network and mount namespaces, cgroups that are
mounted, and iptables; where one is missing, dockerd's own words say which.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parts.debian import download, install, require_root
from parts.processes import end, is_alive, launch, run
from parts.state import PartMissingError, cache_folder, instance_folder, locked, read_facts, wait_until, write_facts

from containers.debian_packages import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = "trixie"
PACKAGES = ["containerd", "docker-buildx", "docker-cli", "docker-compose", "docker.io"]
NEEDED_HERE = ("ca-certificates", "iptables", "libdevmapper1.02.1", "libseccomp2", "libsystemd0")


class Engine:
    """A way to run `docker`; ours outlives this process until `stop`."""

    def __init__(self) -> None:
        """Take the engine of the current instance, running or not."""
        self.folder = instance_folder("containers")
        self.programs = cache_folder() / f"docker-{SUITE}"
        self._found: dict[str, str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to speak to the engine: `docker compose …`."""
        if self._found is None:
            raise PartMissingError("the engine was not started")
        return self._found

    def start(self) -> str:
        """Find an engine, or start ours; returns what it is."""
        theirs = dict(os.environ)
        if _version(theirs) and _has_compose(theirs):
            self._found = theirs
            return f"this machine's Docker {_version(theirs)}"
        self._install()
        with locked(self.folder / "lock"):
            if not is_alive(read_facts(self.folder).get("process")):
                self._launch()
        self._found = self._ours()
        return f"Debian's Docker {_version(self._found)}, started in {self.folder}"

    def stop(self) -> None:
        """End ours, with everything that runs in it; the firewall rules of dockerd stay. An engine of this machine is left alone."""
        end(read_facts(self.folder).get("process"))

    def docker(self, *arguments: str, seconds: float = 600, cwd: Path | None = None) -> str:
        """Run `docker` to its end and return what it printed; PartMissingError with its last lines when it fails."""
        return run(["docker", *arguments], env=self.environment, seconds=seconds, cwd=cwd)

    def answer(self, *arguments: str) -> list[dict[str, Any]]:
        """What a `docker … --format json` said: one object a line, or a list."""
        lines = [json.loads(line) for line in self.docker(*arguments).splitlines() if line.startswith(("{", "["))]
        return [each for line in lines for each in (line if isinstance(line, list) else [line])]

    def succeeds(self, *arguments: str, seconds: float = 120) -> bool:
        """Whether `docker` ends with status 0."""
        try:
            self.docker(*arguments, seconds=seconds)
        except PartMissingError:
            return False
        return True

    def _ours(self) -> dict[str, str]:
        path = f"{self.programs}/usr/sbin:{self.programs}/usr/bin:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        return {
            **os.environ,
            "PATH": path,
            "DOCKER_HOST": f"unix://{self._socket}",
            "DOCKER_CONFIG": str(self.programs / "config"),
        }

    @property
    def _socket(self) -> Path:
        return self.folder / "docker.sock"

    def _install(self) -> None:
        require_root("a container engine of our own")
        install(*NEEDED_HERE)
        with locked(cache_folder() / "docker.lock"):
            if self.programs.exists():
                return
            partial = self.programs.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="docker.") as scratch:
                unpack(SUITE, PACKAGES, partial, Path(scratch))
                runc = download("runc", Path(scratch) / "runc")
                run(["dpkg-deb", "-x", str(runc), str(partial)])
            plugins = partial / "config/cli-plugins"
            plugins.mkdir(parents=True)
            for name in ("docker-buildx", "docker-compose"):
                (plugins / name).symlink_to(f"../../usr/libexec/docker/cli-plugins/{name}")
            partial.rename(self.programs)

    def _launch(self) -> None:
        log = self.folder / "dockerd.log"
        command = ["dockerd", "--host", f"unix://{self._socket}", "--storage-driver", "overlay2"]
        command += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        command += ["--pidfile", str(self.folder / "dockerd.pid"), "--mtu", str(_mtu())]
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        environment = self._ours()
        program = shutil.which("dockerd", path=environment["PATH"])
        if program is None:
            raise PartMissingError(f"{self.programs} has no dockerd: remove that folder and start again")
        process = launch([program, *command[1:]], log, environment)
        write_facts(self.folder, {"process": process})

        def answers() -> bool:
            if not is_alive(process):
                told = [line for line in log.read_text(errors="replace").splitlines() if "level=info" not in line]
                raise PartMissingError("dockerd does not run here; it says:\n" + "\n".join(told[-8:]))
            return _version(environment) is not None

        wait_until(answers, 60, f"dockerd, see {log}", step=0.3)
        _weigh()


def _weigh() -> None:
    """On cgroups of version 1 all containers together weigh as much as one process; let them weigh what sixteen do."""
    shares = Path("/sys/fs/cgroup/cpu/docker/cpu.shares")
    if Path("/sys/fs/cgroup/cpu").is_dir():
        shares.parent.mkdir(exist_ok=True)
        shares.write_text("16384")


def _version(environment: dict[str, str]) -> str | None:
    """The engine's version, None where none answers."""
    return _line(["docker", "version", "--format", "{{.Server.Version}}"], environment)


def _has_compose(environment: dict[str, str]) -> bool:
    """Whether Compose is there in its second version or a later one."""
    found = _line(["docker", "compose", "version", "--short"], environment)
    return found is not None and not found.startswith("1.")


def _line(command: Sequence[str], environment: dict[str, str]) -> str | None:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _mtu() -> int:
    """Packets from containers must fit through the interface by which this machine reaches others."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination = line.split()[:2]
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 1500
