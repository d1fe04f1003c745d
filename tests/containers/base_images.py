"""The public images that the project's files name: from their registry, else stand-ins under the same tags.

Where no registry can be reached, `debian:trixie-slim` is made by debootstrap from the archive that this machine uses, as the
public one is made from Debian's, and the servers' images from Debian's packages on it, with as much of the official images'
start scripts as docker-compose.yml relies on.  This machine's own certificate authorities and the addresses of its package
indexes go into the base image, so that neither a Dockerfile nor the compose file has to know of them.

A stand-in says so in its label `stand-in`.  Grafana has no Debian package: there is no stand-in for it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parts.debian import ENVIRONMENT, archive, install, require_root
from parts.processes import run
from parts.state import cache_folder, locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.engine import Engine

SUITE = "trixie"
BASE = f"debian:{SUITE}-slim"
STAND_INS = Path(__file__).with_name("stand_ins")
SERVERS = {
    "postgres:17": "postgres",
    "prom/prometheus:v2.53.3": "prometheus",
    "rabbitmq:4.0-management": "rabbitmq",
}
WITHOUT_STAND_IN = ("grafana/grafana",)
AUTHORITIES = Path("/usr/local/share/ca-certificates")
HANDED_ON = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# As in Debian's own images: downloaded packages do not stay.
CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Retries "3";
"""
# As in Debian's own slim images: what nobody reads in a container.
LEFT_OUT = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def provide(engine: Engine, say: Callable[[str], None]) -> None:
    """Have every public image that is needed, and say where each comes from."""
    for tag in (BASE, *SERVERS):
        began = time.monotonic()
        if engine.succeeds("image", "inspect", tag):
            say(f"{tag}: here already")
        elif engine.succeeds("pull", "--quiet", tag, seconds=600):
            say(f"{tag}: from its registry, {time.monotonic() - began:.0f} s")
        else:
            _stand_in(engine, tag)
            say(f"{tag}: no registry answers; a stand-in of Debian's packages, {time.monotonic() - began:.0f} s")


def _stand_in(engine: Engine, tag: str) -> None:
    if tag == BASE:
        changes = [f"ENV {name}={os.environ[name]}" for name in HANDED_ON if os.environ.get(name)]
        options = [
            word for change in ["LABEL stand-in=debootstrap", *changes, 'CMD ["bash"]'] for word in ("--change", change)
        ]
        engine.docker("import", *options, str(_root_archive()), BASE, seconds=300)
        return
    folder = STAND_INS / SERVERS[tag]
    engine.docker("build", "--quiet", "--tag", tag, str(folder), seconds=1200)


def _root_archive() -> Path:
    """Debian's smallest root as a tar file, made once."""
    path = cache_folder() / f"debian-{SUITE}-slim.tar"
    with locked(cache_folder() / "debian-slim.lock"):
        if not path.exists():
            require_root(f"{BASE} made by debootstrap")
            install("debootstrap")
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="slim.") as scratch:
                root = Path(scratch) / "root"
                command = ["debootstrap", "--variant=minbase", SUITE, str(root), archive()]
                run(command, env=ENVIRONMENT, seconds=1200)
                _slim(root)
                partial = path.with_suffix(".partial")
                run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(partial), "."])
            partial.rename(path)
    return path


def _slim(root: Path) -> None:
    for name in LEFT_OUT:
        for path in (root / name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    rules = "".join(f"path-exclude /{name}/*\n" for name in LEFT_OUT if name.startswith("usr/"))
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(rules)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(CLEAN)
    for certificate in AUTHORITIES.glob("*.crt"):
        target = root / str(AUTHORITIES)[1:]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(certificate, target)


def missing() -> str:
    """What the smoke test leaves out, in words."""
    return f"no stand-in can be made of Debian's packages for: {', '.join(WITHOUT_STAND_IN)}"
