"""Packages of another Debian release than this machine's, unpacked into a folder and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parts.debian import ENVIRONMENT, archive
from parts.processes import run

if TYPE_CHECKING:
    from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpack(suite: str, packages: list[str], target: Path, scratch: Path) -> None:
    """Fetch the packages of this release, without what they depend on, and lay their files below `target`."""
    for folder in ("lists/partial", "cache/archives/partial", "packages"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    (scratch / "sources.list").write_text(f"deb [signed-by={KEYRING}] {archive()} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": scratch / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": scratch / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 3,
    }
    apt = ["apt-get", "-q", *[word for name, value in options.items() for word in ("-o", f"{name}={value}")]]
    run([*apt, "update"], env=ENVIRONMENT)
    run([*apt, "download", *packages], env=ENVIRONMENT, cwd=scratch / "packages", seconds=900)
    for package in sorted((scratch / "packages").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(target)])
