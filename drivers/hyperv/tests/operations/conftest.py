"""Two simulated hosts in this process, spoken to as real ones are: WS-Management over TCP with NTLM's encryption."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.contract.call import Revoked
from federation.contract.instances import Instance
from federation.contract.operations import find
from federation.contract.validation import parse_request
from federation_hyperv.driver import HypervDriver
from federation_hyperv.settings import Settings
from federation_hyperv.testing.cluster import Settings as ClusterSettings
from federation_hyperv.testing.cluster import SimulatedCluster, running
from federation_hyperv.testing.host import HostFacts
from federation_hyperv.testing.vhdx import DYNAMIC, DiskFacts, write_vhdx

PASSWORD = "correct-horse-battery-canary"
MIB = 1 << 20
HOSTS = ("HV1", "HV2")


@dataclass
class ScriptedCall:
    """A call of the worker: counts guards, and raises at the one that the test names."""

    operation: str = field(default_factory=lambda: str(uuid.uuid4()))
    attempt: int = 1
    recovering: bool = False
    cluster: str = "lab"
    stop_at: int = 0
    error: BaseException = field(default_factory=Revoked)
    guards: int = 0
    revoked_in_stage: str = ""
    stages: list[str] = field(default_factory=list)

    def guard(self) -> None:
        self.guards += 1
        if self.guards == self.stop_at:
            raise self.error

    def progress(self, percent: float | None, stage: str) -> None:
        assert percent is None or 0 <= percent <= 100
        self.stages.append(stage)

    def sleep(self, seconds: float) -> None:
        if self.revoked_in_stage and self.stages[-1:] == [self.revoked_in_stage]:
            raise Revoked
        # An operation waits for jobs that other threads carry out: real time has to pass.
        time.sleep(min(seconds, 0.02))

    def remaining(self) -> float | None:
        return None

    def again(self) -> ScriptedCall:
        """The next attempt of the same operation."""
        return ScriptedCall(self.operation, self.attempt + 1, recovering=True)


class Lab:
    """The hosts, a driver, and words for asking it."""

    def __init__(self, cluster: SimulatedCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.images = folder / "images"
        self.images.mkdir()
        self.image = self.images / "base.vhdx"
        write_vhdx(self.image, DiskFacts(kind=DYNAMIC, size_bytes=64 * MIB))
        self.settings = msgspec.convert(self._settings(), Settings)
        self.driver = HypervDriver.open(self.settings, "lab")

    def another_driver(self, **changes: Any) -> HypervDriver:
        """A driver of another worker."""
        return HypervDriver.open(msgspec.convert(self._settings() | changes, Settings), "lab")

    def ask(
        self, operation: str, call: ScriptedCall | None = None, driver: HypervDriver | None = None, **arguments: Any
    ) -> Any:
        """Call the driver's method with a request that the contract accepts."""
        request = parse_request(find(operation), arguments)
        return getattr(driver or self.driver, operation)(call or ScriptedCall(), request)

    def spec(self, **more: Any) -> dict[str, Any]:
        """The smallest instance."""
        return {
            "name": f"vm-{uuid.uuid4().hex[:8]}",
            "node": "HV1",
            "flavour": {"vcpus": 1, "memory_bytes": 256 * MIB},
            "boot": self.boot(),
        } | more

    def boot(self, **more: Any) -> dict[str, Any]:
        """The image."""
        digest = hashlib.sha256(self.image.read_bytes()).hexdigest()
        return {"kind": "image", "url": self.image.as_uri(), "checksum": f"sha256:{digest}", "format": "vhdx"} | more

    def create(self, *, start: bool = False, call: ScriptedCall | None = None, **more: Any) -> Instance:
        """An instance."""
        made = self.ask("create", call, instance=str(uuid.uuid4()), spec=self.spec(**more), start=start)
        assert isinstance(made, Instance)
        return made

    def files(self, node: str = "HV1") -> set[str]:
        """What lies in the driver's folder of a host."""
        return {place.name for place in self.place(node).iterdir()}

    def place(self, node: str) -> Path:
        """The driver's folder of a host as this machine has it."""
        return self.folder / "hosts" / node / "C" / "Federation"

    def kinds(self) -> list[str]:
        """What took effect, in order."""
        return [effect.kind for effect in self.cluster.effects()]

    def _settings(self) -> dict[str, Any]:
        for node in HOSTS:
            self.place(node).mkdir(parents=True, exist_ok=True)
        return {
            "hosts": {
                node: {
                    "address": "127.0.0.1",
                    "port": self.cluster.port(node),
                    "mount": str(self.place(node)),
                    "migration_address": node,
                }
                for node in HOSTS
            },
            "authentication": "ntlm",
            "tls": False,
            "username": "federation",
            "password_file": str(self._password()),
            "images": {"schemes": ["file"], "directories": [str(self.images)]},
            "uploads": {"schemes": ["file"], "directories": [str(self.images)]},
            "reserved_memory_bytes": 0,
            "timeouts": {"settle_tries": 2, "read_seconds": 10.0},
        }

    def _password(self) -> Path:
        file = self.folder / "password"
        file.write_text(PASSWORD + "\n")
        return file


@pytest.fixture
def lab(tmp_path):
    facts = tuple(HostFacts(name=name, job_seconds=0.01, shutdown_seconds=0.05) for name in HOSTS)
    settings = ClusterSettings(hosts=facts, username="federation", password=PASSWORD)
    with running(tmp_path / "hosts", settings) as cluster:
        made = Lab(cluster, tmp_path)
        yield made
        made.driver.close()


@pytest.fixture
def call_of():
    """Makes calls; tests import nothing from here."""
    return ScriptedCall
