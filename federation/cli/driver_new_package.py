"""The package that ``federation driver new`` writes: which template becomes which file, and what is filled in.

Rules:

1. A name is what an operator types after ``--driver``: lower-case letters and digits, parts joined by single hyphens.
2. Nothing is overwritten: the folder must not exist, or be empty.
3. The package appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path

from federation.contract.release import CURRENT

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 32
_TOKEN = re.compile(r"\{\{(\w+)\}\}")
_FILES = {
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "{{name}}.toml": "driver.toml",
    "{{package}}/__init__.py": "package.py",
    "{{package}}/changes.py": "changes.py",
    "{{package}}/connection.py": "connection.py",
    "{{package}}/driver.py": "driver.py",
    "{{package}}/faults.py": "faults.py",
    "{{package}}/lifecycle.py": "lifecycle.py",
    "{{package}}/machine.py": "machine.py",
    "{{package}}/py.typed": "py.typed",
    "{{package}}/settings.py": "settings.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/test_description.py": "test_description.py",
    "tests/test_machine.py": "test_machine.py",
}
"""File of the package: template in ``driver_template/``, without its ``.tmpl``."""


class CannotWrite(Exception):
    """The package cannot be written; the message says what to correct."""


@dataclass(frozen=True, slots=True)
class NewDriver:
    """The names that follow from a driver's name; raises CannotWrite for one that cannot be."""

    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        if len(self.name) > LONGEST_NAME or not _NAME.fullmatch(self.name):
            message = (
                f"{self.name!r} cannot be a driver's name: 1 to {LONGEST_NAME} lower-case letters, digits and single "
                f"hyphens, a letter first, such as cloud-hypervisor"
            )
            raise CannotWrite(message)
        installed = [point for point in entry_points(group="federation.drivers") if point.name == self.name]
        if installed:
            provider = installed[0].dist.name if installed[0].dist is not None else installed[0].module
            raise CannotWrite(f"a driver {self.name!r} is installed already, by {provider}; choose another name")

    @property
    def distribution(self) -> str:
        """The name that is installed."""
        return f"federation-driver-{self.name}"

    @property
    def package(self) -> str:
        """The name that is imported."""
        return "federation_" + self.name.replace("-", "_")

    def tokens(self) -> dict[str, str]:
        """What the templates leave open."""
        core = version("driver-federation").partition("+")[0]
        return {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "class": "".join(part.capitalize() for part in self.name.split("-")) + "Driver",
            "release": str(CURRENT),
            "core": core,
            "next_major": str(int(core.partition(".")[0]) + 1),
        }

    def write(self, folder: Path) -> list[Path]:
        """Write the package and return its files, relative to the folder; CannotWrite when there is something already."""
        if folder.is_dir() and any(folder.iterdir()):
            raise CannotWrite(f"{folder} is not empty; name another folder with --path")
        if folder.exists() and not folder.is_dir():
            raise CannotWrite(f"{folder} is a file; name another folder with --path")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                written = self._fill(beside)
                beside.chmod(0o755)
                beside.replace(folder)
            except OSError:
                shutil.rmtree(beside)
                raise
        except OSError as error:
            raise CannotWrite(f"{folder} cannot be written: {error.strerror or error}") from error
        return written

    def _fill(self, folder: Path) -> list[Path]:
        tokens = self.tokens()
        written = []
        for place, template in _FILES.items():
            path = Path(filled(place, tokens))
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(filled(_read(template), tokens), encoding="utf-8")
            written.append(path)
        return written


def filled(text: str, tokens: dict[str, str]) -> str:
    """The text with every ``{{token}}`` replaced; KeyError for one that nobody fills."""
    return _TOKEN.sub(lambda token: tokens[token[1]], text)


def _read(template: str) -> str:
    return files("federation.cli").joinpath("driver_template", f"{template}.tmpl").read_text(encoding="utf-8")
