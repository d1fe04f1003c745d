"""What Debian's packages give: installed ones, downloaded ones, and a private root of a newer release."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from parts.processes import run
from parts.state import PartMissingError, cache_folder, locked

ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def require_root(why: str) -> None:
    """Raise PartMissingError unless this process is root."""
    if os.geteuid() != 0:
        raise PartMissingError(f"{why} needs root")


def is_installed(package: str) -> bool:
    """Whether a Debian package is installed."""
    try:
        return run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package]) == "installed"
    except PartMissingError:
        return False  # dpkg-query fails for a package that it never heard of


def install(*packages: str) -> None:
    """Install Debian packages that are not there yet; services of theirs are not started.

    Raises PartMissingError, naming the packages, without root, apt or a reachable archive.
    """
    absent = [name for name in packages if not is_installed(name)]
    if not absent:
        return
    names = " ".join(absent)
    if shutil.which("apt-get") is None:
        raise PartMissingError(f"not installed, and no apt-get here to install them: {names}")
    require_root(f"installing {names}")
    with locked(cache_folder() / "apt.lock"), _without_starting_services():
        try:
            _apt_install(absent)
        except PartMissingError:
            run(["apt-get", "-q", "update"], env=ENVIRONMENT, seconds=300)
            _apt_install(absent)


def _apt_install(packages: list[str]) -> None:
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    command = ["apt-get", "-q", "-y", *options, "install", "--no-install-recommends", *packages]
    run(command, env=ENVIRONMENT, seconds=900)


class _without_starting_services:  # noqa: N801 -- read as a phrase: `with _without_starting_services()`
    """Debian starts a server when it is installed; policy-rc.d (101: forbidden) tells it not to."""

    path = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self.ours = not self.path.exists()
        if self.ours:
            self.path.write_text("#!/bin/sh\nexit 101\n")
            self.path.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.ours:
            self.path.unlink(missing_ok=True)


def archive() -> str:
    """The Debian archive that this machine already uses."""
    try:
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
        lines = run(command, env=ENVIRONMENT).split()
    except PartMissingError:
        lines = []  # without apt's lists debootstrap's own default is the best guess
    return next((line for line in lines if "security" not in line), "https://deb.debian.org/debian/")


def bootstrapped_root(suite: str, package: str) -> Path:
    """A private root folder of another Debian release with one package, made once (about 50 s and 370 MB)."""
    root = cache_folder() / f"debian-{suite}"
    with locked(cache_folder() / f"debian-{suite}.lock"):
        if root.exists():
            return root
        require_root(f"{package} of Debian {suite} in a private root (debootstrap)")
        install("debootstrap")
        partial = root.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", f"--include={package}", suite, str(partial), archive()]
        run(command, env=ENVIRONMENT, seconds=900)
        shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
        (partial / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        partial.rename(root)
    return root


def download(package: str, folder: Path) -> Path:
    """Fetch a package's file without installing it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(["apt-get", "-q", "download", package], env=ENVIRONMENT, cwd=folder)
    except PartMissingError:
        run(["apt-get", "-q", "update"], env=ENVIRONMENT, seconds=300)
        run(["apt-get", "-q", "download", package], env=ENVIRONMENT, cwd=folder)
    found = sorted(folder.glob(f"{package}_*.deb"))
    if not found:
        raise PartMissingError(f"the archive has no package {package}")
    return found[-1]
