"""Clients of Hyper-V and of WS-Management that are not ours, each as its makers publish it, in an environment of their own."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

from parts.processes import run
from parts.state import PartMissingError, cache_folder, locked, remove_folder

# os-win imports six and pkg_resources, and declares neither.
REQUIREMENTS = (
    "os-win==5.9.0",
    "six",
    "setuptools<81",
    "pywinrm>=0.5,<1",
    "pypsrp>=0.8.1,<1",
    "msgspec>=0.20,<1",
    "tenacity>=9.1,<10",
)


class HypervClients:
    """os-win, pywinrm and pypsrp, installed once for each list of requirements."""

    @property
    def folder(self) -> Path:
        """The environment, named by what is in it."""
        wanted = "\n".join([*REQUIREMENTS, sys.version])
        return cache_folder() / f"hyperv-clients-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self) -> None:
        """Make the environment; PartMissingError when the packages cannot be had."""
        if (self.folder / "complete").exists():
            return
        with locked(cache_folder() / "hyperv-clients.lock"):
            if (self.folder / "complete").exists():
                return
            if self.folder.exists():
                remove_folder(self.folder)
            try:
                self._make()
            except PartMissingError as error:
                raise PartMissingError(f"os-win, pywinrm and pypsrp cannot be installed: {error}") from error
            (self.folder / "complete").touch()

    def _make(self) -> None:
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        if Path(uv).exists():
            run([uv, "venv", "--quiet", "--python", sys.executable, str(self.folder)])
            run([uv, "pip", "install", "--quiet", "--python", str(self.python), *REQUIREMENTS], seconds=600)
        else:
            run([sys.executable, "-m", "venv", str(self.folder)], seconds=120)
            run([str(self.python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], seconds=600)

    def start(self) -> None:
        """Make the environment; nothing runs in it before a test does."""
        self.install()

    def stop(self) -> None:
        """Nothing runs beyond its test."""

    def status(self) -> dict[str, Any]:
        """Whether it is there."""
        return {"part": "hyperv-clients", "installed": (self.folder / "complete").exists(), "python": str(self.python)}

    def env(self) -> dict[str, str]:
        """Shell variables that name the interpreter."""
        return {"FEDERATION_TEST_HYPERV_CLIENTS": str(self.python)}
