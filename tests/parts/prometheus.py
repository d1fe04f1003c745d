"""Prometheus and its checker promtool, unpacked from Debian's package and not installed: both are programs of one file."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from parts.debian import download
from parts.processes import run
from parts.state import PartMissingError, cache_folder, locked, wait_until

START_SECONDS = 60


class Prometheus:
    """The programs, and servers of the caller's own."""

    @property
    def folder(self) -> Path:
        """Where they are unpacked."""
        return cache_folder() / "prometheus"

    @property
    def promtool(self) -> Path:
        """The checker of configurations and rules."""
        return self.folder / "usr/bin/promtool"

    @property
    def server(self) -> Path:
        """The server."""
        return self.folder / "usr/bin/prometheus"

    def install(self) -> None:
        """Unpack the package; PartMissingError without apt or a reachable archive."""
        if self.promtool.exists():
            return
        with locked(cache_folder() / "prometheus.lock"):
            if self.promtool.exists():
                return
            partial = self.folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            if shutil.which("apt-get") is None:
                raise PartMissingError("Prometheus is unpacked from Debian's package, and there is no apt-get here")
            run(["dpkg-deb", "-x", str(download("prometheus", partial / "package")), str(partial)])
            shutil.rmtree(partial / "package")
            shutil.rmtree(self.folder, ignore_errors=True)
            partial.rename(self.folder)

    def launch(self, configuration: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
        """A server on loopback, of the caller's own, ready when this returns."""
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    str(self.server),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: _is_ready(port), START_SECONDS, f"Prometheus, see {folder / 'prometheus.log'}")
        return process

    def start(self) -> None:
        """Unpack it; nothing runs before a test launches it."""
        self.install()

    def stop(self) -> None:
        """Nothing runs beyond its test."""

    def status(self) -> dict[str, Any]:
        """Whether it is there."""
        return {"part": "prometheus", "installed": self.promtool.exists(), "promtool": str(self.promtool)}

    def env(self) -> dict[str, str]:
        """Shell variables that name the checker."""
        return {"FEDERATION_TEST_PROMTOOL": str(self.promtool)}


def _is_ready(port: int) -> bool:
    """It listens before it can answer, and says 503 until then."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
