"""The home of a driver's author: a folder with an environment of its own, in which this tree counts as installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

SECONDS = 300


@dataclass(frozen=True)
class Home:
    """Packages of the environment that runs the tests are visible; what is installed here stays here."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ".venv/bin/python"

    @classmethod
    def make(cls, folder: Path) -> Home:
        home = cls(folder)
        venv.create(folder / ".venv", with_pip=False, symlinks=True)
        (site,) = (folder / ".venv/lib").glob("python3*/site-packages")
        (site / "tree.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        tools = Path(sysconfig.get_path("scripts"))
        # mypy looks for packages in the environment of its interpreter, ruff has no interpreter.
        home._add("ruff", f'exec {tools / "ruff"} "$@"')
        home._add("mypy", f'exec {tools / "mypy"} "$@"')
        home._add("pytest", f'exec {home.python} -m pytest "$@"')
        home._add("federation", f'exec {home.python} -m federation.cli "$@"')
        return home

    def install(self, package: str, *how: str) -> None:
        """Build a folder's package and install it, without what it depends on: that is here already."""
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        self.run([uv, "pip", "install", "--quiet", "--python", str(self.python), "--no-deps", *how, package])

    def run(self, command: list[str], folder: str = ".") -> str:
        """Run to success; returns all that was said."""
        done = self.try_(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def try_(self, command: list[str], folder: str = ".") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder / folder, env=self.environment(), timeout=SECONDS, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @staticmethod
    def environment() -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "FEDERATION_"))}
        return {**kept, "NO_COLOR": "1"}

    def _add(self, name: str, line: str) -> None:
        script = self.folder / ".venv/bin" / name
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
