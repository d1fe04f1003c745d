"""VMware's own vCenter simulator (govmomi's `simulator`), built once from Debian's packages, a fresh process for whoever asks.

Some requests panic its handlers, so nobody shares one: `VCenterSimulator().launch(folder)` gives a process of the caller's.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parts.certificates import make_certificates
from parts.debian import install
from parts.processes import run
from parts.state import PartMissingError, cache_folder, locked

SOURCE = Path(__file__).with_name("vcenter_simulator.go")
PACKAGES = ("golang-go", "golang-github-vmware-govmomi-dev", "qemu-utils")
LIBRARY = Path("/usr/share/gocode/src/github.com/vmware/govmomi")
USER = "federation"
START_SECONDS = 60.0


@dataclass(frozen=True)
class VCenter:
    """A running simulated vCenter: where it is, who may log in, and the authority that signed its certificate."""

    process: subprocess.Popen[bytes]
    url: str
    host: str
    port: int
    user: str
    password: str
    ca_file: str
    log: Path

    def is_running(self) -> bool:
        """Whether the process is there; a request that panics a handler does not end it, a bad one may."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End it, by force after five seconds."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


class VCenterSimulator:
    """The program, and how it is brought up."""

    def install(self) -> None:
        """Install Go and govmomi from Debian's packages and build the simulator, once for each source; qemu-img makes disks."""
        if self.program.exists() and shutil.which("qemu-img") is not None:
            return
        if not LIBRARY.exists() or shutil.which("go") is None or shutil.which("qemu-img") is None:
            install(*PACKAGES)
        with locked(cache_folder() / "vcenter.lock"):
            if not self.program.exists():
                self._build()

    def start(self) -> None:
        """Build it; each test that wants one launches a process of its own."""
        self.install()

    def stop(self) -> None:
        """Nothing runs beyond its test."""

    def status(self) -> dict[str, Any]:
        """Whether the program is built."""
        return {"part": "vcenter", "built": self.program.exists(), "program": str(self.program)}

    def env(self) -> dict[str, str]:
        """Shell variables that name the program."""
        return {"FEDERATION_TEST_VCENTER": str(self.program)}

    @property
    def program(self) -> Path:
        """The built program, named by what it was built from."""
        digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
        return cache_folder() / f"vcenter-simulator-{digest}"

    def launch(self, folder: Path, *options: str) -> VCenter:
        """Start a vCenter of one's own, its certificates and log in `folder`; `options` are those of the program."""
        self.install()
        certificates = make_certificates(folder)
        password = secrets.token_hex(12)
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o600)
        log = folder / "vcenter.log"
        keys = ["-cert", certificates["server_pem"], "-key", certificates["server_key"]]
        command = [str(self.program), *keys, "-user", USER, "-password-file", str(secret), *options]
        with log.open("ab") as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        url = self._address(process, log)
        parts = urlsplit(url)
        return VCenter(
            process, url, str(parts.hostname), int(parts.port or 443), USER, password, certificates["ca_pem"], log
        )

    @staticmethod
    def _address(process: subprocess.Popen[bytes], log: Path) -> str:
        """The address that it prints when it listens."""
        if process.stdout is None:
            raise PartMissingError("the vCenter simulator was started without a pipe to read its address from")
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and process.poll() is None:
            if select.select([process.stdout], [], [], 0.5)[0]:
                line = process.stdout.readline().decode().strip()
                if line.startswith("https://"):
                    return line
        process.kill()
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise PartMissingError(f"the vCenter simulator did not start:\n{tail}")

    def _build(self) -> None:
        partial = self.program.with_suffix(".partial")
        cache = cache_folder() / "go-build"
        settings = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(cache), "GOFLAGS": ""}
        run(["go", "build", "-o", str(partial), str(SOURCE)], env={**os.environ, **settings}, seconds=900)
        partial.rename(self.program)
        shutil.rmtree(cache, ignore_errors=True)
