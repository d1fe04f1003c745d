"""Two installations side by side: the previous release and the tree, each built as a wheel into an environment of its own.

The previous release is named in ``previous.txt`` (or, for a try, in FEDERATION_SKEW_PREVIOUS): a git revision, or a folder
that holds its wheel.  Foreign packages are those of the tests' own environment, version by version, so that nothing but
our code differs.

The simulated hypervisor's files are written by workers of both releases and judged by the tree: between releases their
format may only grow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

TREE = Path(__file__).parents[2]
PREVIOUS = Path(__file__).with_name("previous.txt")
_OURS = "driver-federation"
_BUILD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment with one of our wheels in it; ``program`` is its command line."""

    name: str
    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "federation"

    def python(self, code: str) -> str:
        """What a line of Python prints there."""
        command = [self.folder / "bin" / "python", "-I", "-c", code]
        return _run(*map(str, command)).strip()


def named_previous() -> str:
    """The git revision or folder that ``previous.txt`` names."""
    if os.environ.get("FEDERATION_SKEW_PREVIOUS"):
        return os.environ["FEDERATION_SKEW_PREVIOUS"]
    lines = [line.strip() for line in PREVIOUS.read_text(encoding="utf-8").splitlines()]
    (named,) = [line for line in lines if line and not line.startswith("#")]
    return named


def install_previous(scratch: Path) -> Installation:
    """The previous release."""
    named = named_previous()
    wheels = PREVIOUS.parent / named
    if not wheels.is_dir():
        wheels = _wheels_of(_checked_out(named, scratch / "source"), scratch / "wheels")
    return _installed("previous", wheels, scratch)


def install_tree(scratch: Path) -> Installation:
    """What stands in the working tree now."""
    return _installed("tree", _wheels_of(TREE, scratch / "wheels"), scratch)


def _checked_out(revision: str, folder: Path) -> Path:
    archive = folder.with_suffix(".tar")
    _run("git", "-C", str(TREE), "archive", "--output", str(archive), revision)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _wheels_of(source: Path, folder: Path) -> Path:
    _run(_uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(source))
    return folder


def _installed(name: str, wheels: Path, scratch: Path) -> Installation:
    (wheel,) = wheels.glob(f"{_OURS.replace('-', '_')}-*.whl")
    folder = scratch / "environment"
    same = scratch / "constraints.txt"
    foreign = [d for d in distributions() if not d.name.startswith(("federation", _OURS))]
    same.write_text("".join(f"{d.name}=={d.version}\n" for d in foreign))
    _run(_uv(), "venv", "--quiet", "--python", sys.executable, str(folder))
    extras = f"{wheel}[postgresql,testing]"
    _run(
        _uv(),
        "pip",
        "install",
        "--quiet",
        "--python",
        str(folder / "bin" / "python"),
        "--constraint",
        str(same),
        extras,
    )
    return Installation(name, folder)


def _uv():
    """From the path, else the one that make put beside this Python."""
    return shutil.which("uv") or str(Path(sys.executable).with_name("uv"))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
