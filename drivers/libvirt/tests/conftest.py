"""A laboratory for the driver: real libvirt hosts of this test session alone, the Linux guest, and a way to see everything."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import NotFound
from federation.contract.instances import (
    BootImage,
    BootKernel,
    BootSource,
    DataDisk,
    Flavour,
    GuestSetup,
    ImageFormat,
    Instance,
    InstanceSpec,
)
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.clock import SystemClock
from federation_libvirt.attempt import Attempt
from federation_libvirt.connection import UNDEFINE_ALL
from federation_libvirt.driver import LibvirtDriver
from federation_libvirt.settings import ImageRules, Migration, Settings, Timeouts

MEBIBYTE = 1 << 20
SLOW_MIGRATION_MIB_PER_SECOND = 16
BOOT_SECONDS = 90.0
EXTRA_POOL = "lab-extra"


class Lab:
    """One pool on two hosts, a driver on them, and what a test needs to make, watch and compare instances."""

    def __init__(self, hosts: Any, guest: dict[str, Any], extra_directory: Path) -> None:
        self.hosts = hosts
        self.guest = guest
        self.nodes = [host["name"] for host in hosts.facts["hosts"]]
        self.folders = [Path(host["folder"]) for host in hosts.facts["hosts"]]
        directories = tuple({str(Path(guest[name]).parent) for name in ("image", "kernel", "initrd")})
        base = self.folders[0].parent
        self.settings = Settings(
            hosts=hosts.uris,
            pool="lab",
            volume_pools=("lab-extra",),
            pool_path=f"{base}/{{node}}/volumes/lab",
            console_path=f"{base}/{{node}}/console/lab",
            images=ImageRules(
                schemes=frozenset({"file", "http"}),
                hosts=("127.0.0.1",),
                directories=(*directories, str(extra_directory)),
                max_bytes=64 * MEBIBYTE,
                timeout_seconds=5,
            ),
            # The hosts' names mean nothing outside of them, and nobody else is to reach QEMU's ports.
            migration=Migration(addresses=dict.fromkeys(self.nodes, "127.0.0.1")),
            uploads=ImageRules(
                schemes=frozenset({"file", "http"}),
                hosts=("127.0.0.1",),
                directories=(str(extra_directory),),
                timeout_seconds=5,
            ),
            timeouts=Timeouts(connect_seconds=3, keepalive_seconds=2, settle_tries=4),
        )
        self.driver = self.another_driver()

    def another_driver(self, **changes: object) -> LibvirtDriver:
        """A driver as a new worker process would have it, with other settings if wished."""
        return LibvirtDriver.open(msgspec.structs.replace(self.settings, **changes), "lab-cluster")

    @staticmethod
    def call(**options: Any) -> RecordedCall:
        return RecordedCall(clock=SystemClock(), cluster="lab-cluster", **options)

    def meddling(self, at: int, action: Callable[[], object]) -> RecordedCall:
        """A call that lets something happen on the host right before its n-th change is sent."""
        call = self.call()
        guard = call.guard

        def guarded() -> None:
            guard()
            if call.guards == at:
                action()

        call.guard = guarded
        return call

    def image(self, **changes: Any) -> BootImage:
        fields = {
            "url": f"file://{self.guest['image']}",
            "checksum": f"sha256:{self.guest['image_sha256']}",
            "format": ImageFormat.QCOW2,
        }
        return BootImage(**{**fields, **changes})

    def kernel(self) -> BootKernel:
        return BootKernel(
            kernel_url=f"file://{self.guest['kernel']}",
            kernel_checksum=f"sha256:{self.guest['kernel_sha256']}",
            initrd_url=f"file://{self.guest['initrd']}",
            initrd_checksum=f"sha256:{self.guest['initrd_sha256']}",
            command_line=self.guest["cmdline"],
        )

    def spec(self, boot: BootSource | None = None, **changes: Any) -> InstanceSpec:
        fields = {
            "name": f"lab-{uuid.uuid4().hex[:8]}",
            "node": self.nodes[0],
            "flavour": Flavour(vcpus=1, memory_bytes=128 * MEBIBYTE),
            "boot": boot or self.kernel(),
        }
        return InstanceSpec(**{**fields, **changes})

    def create(self, spec: InstanceSpec | None = None, *, start: bool = True) -> Instance:
        request = r.Create(instance=str(uuid.uuid4()), spec=spec or self.spec(), start=start)
        return self.driver.create(self.call(), request)

    def get(self, instance: str) -> Instance:
        return self.driver.get_instance(self.call(), r.GetInstance(instance=instance))

    def destroy(self, instance: str) -> None:
        self.driver.destroy(self.call(), r.Destroy(instance=instance))

    def console(self, instance: str, max_bytes: int = 1 << 18) -> str:
        request = r.GetConsoleOutput(instance=instance, max_bytes=max_bytes)
        return self.driver.get_console_output(self.call(), request).text

    def wait_for_line(self, instance: str, text: str, times: int = 1) -> list[str]:
        """Every console line with the text, once there are so many."""
        lines: list[str] = []

        def seen() -> bool:
            lines[:] = [line.strip() for line in self.console(instance).splitlines() if text in line]
            return len(lines) >= times

        wait_until(seen, f"{times} console lines with {text!r}", BOOT_SECONDS)
        return lines

    def wait_ready(self, instance: str, times: int = 1) -> str:
        """Wait for the guest to be up for the n-th time; returns what it says then."""
        return self.wait_for_line(instance, self.guest["ready_line"], times)[-1]

    def killed(self, operation: str, call: RecordedCall, request: r.Request) -> None:
        """Run until the call's crash; one that asks for less leave than that ends by itself, after its last change."""
        with contextlib.suppress(SimulatedCrash):
            getattr(self.driver, operation)(call, request)

    @staticmethod
    def wait_until(condition: Callable[[], object], what: str, seconds: float = BOOT_SECONDS) -> None:
        wait_until(condition, what, seconds)

    def native(self, node: int = 0) -> Any:
        """A connection of the test's own."""
        return libvirt.open(list(self.hosts.uris.values())[node])

    def inventory(self) -> dict[str, Any]:
        """Everything that a driver could leave behind: domains, networks, pools, volumes, and files of every kind."""
        found: dict[str, Any] = {}
        for node, uri in self.hosts.uris.items():
            native = libvirt.open(uri)
            found[node] = {
                "domains": sorted(
                    (d.name(), d.UUIDString(), d.state()[0], d.XMLDesc()) for d in native.listAllDomains()
                ),
                "networks": sorted(network.name() for network in native.listAllNetworks()),
                "pools": {pool.name(): sorted(pool.listVolumes()) for pool in native.listAllStoragePools()},
            }
            native.close()
        kept = ("volumes", "console", "lib/qemu/nvram", "lib/qemu/save", "lib/qemu/snapshot", "etc/qemu")
        for folder in self.folders:
            files = (path for part in kept for path in (folder / part).rglob("*") if path.is_file())
            found[f"{folder.name} files"] = sorted(str(path) for path in files)
        return found

    def extra_pool(self, node: int = 0) -> str:
        """A second pool, made as an operator would; removed by ``clear``."""
        folder = self.folders[node] / "volumes" / EXTRA_POOL
        folder.mkdir(exist_ok=True)
        xml = f"<pool type='dir'><name>{EXTRA_POOL}</name><target><path>{folder}</path></target></pool>"
        self.native(node).storagePoolDefineXML(xml).create()
        return EXTRA_POOL

    def make_volume(self, name: str, kind: str = "raw", pool: str = "lab", size: int = 48 * MEBIBYTE) -> None:
        """A volume that somebody else made."""
        xml = (
            f"<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity><allocation>0</allocation>"
            f"<target><format type='{kind}'/></target></volume>"
        )
        self.native().storagePoolLookupByName(pool).createXML(xml, 0)

    def in_pool(self, pool: str = "lab") -> set[str]:
        """Names of the volumes in a pool."""
        return set(self.native().storagePoolLookupByName(pool).listVolumes())

    @staticmethod
    def write_disk(path: str, content: bytes) -> None:
        """Write at the start of the qcow2 disk of a stopped machine."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            command = f"write -s {file.name} 0 {len(content)}"
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], check=True, timeout=60, capture_output=True)

    @staticmethod
    def read_disk(path: str, length: int) -> bytes:
        """Read from the start of the qcow2 disk of a stopped machine."""
        with tempfile.TemporaryDirectory() as folder:
            command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, f"{folder}/raw"]
            subprocess.run(command, check=True, timeout=60)
            with Path(f"{folder}/raw").open("rb") as file:
                return file.read(length)

    @staticmethod
    def snapshots_in(path: str) -> set[str]:
        """Names of the internal snapshots in a qcow2 file."""
        command = ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path]
        answer = subprocess.run(command, check=True, timeout=60, capture_output=True)
        return {snapshot["name"] for snapshot in json.loads(answer.stdout).get("snapshots", ())}

    @staticmethod
    def backing_of(path: str) -> str:
        """The file that a qcow2 file stands on, empty when there is none."""
        command = ["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path]
        answer = subprocess.run(command, check=True, timeout=60, capture_output=True)
        return json.loads(answer.stdout).get("backing-filename", "")

    @staticmethod
    def qcow2_with_backing(path: str) -> bytes:
        """The bytes of a qcow2 file that names another file, as a guest could write them."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "evil"
            command = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", path, str(file), "1M"]
            subprocess.run(command, check=True, timeout=60)
            return file.read_bytes()

    def copy_volume(self, source: str, name: str) -> None:
        """A flattened copy of a volume, made as an operator would."""
        pool = self.native().storagePoolLookupByName("lab")
        xml = f"<volume><name>{name}</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>"
        pool.createXMLFrom(xml, pool.storageVolLookupByName(source), 0)

    def forget_cache(self) -> None:
        """Delete every cached file, so that the next creation has to fetch."""
        for node in range(len(self.nodes)):
            native = self.native(node)
            for pool in native.listAllStoragePools():
                for volume in pool.listAllVolumes():
                    if volume.name().startswith("cached-"):
                        volume.delete(0)

    def clear(self) -> None:
        """Remove every domain, ours or not, and what belongs to it."""
        for node in range(len(self.nodes)):
            native = self.native(node)
            for domain in native.listAllDomains():
                if domain.isActive():
                    domain.destroy()
                if domain.isPersistent():
                    domain.undefineFlags(UNDEFINE_ALL)
            for pool in native.listAllStoragePools():
                pool.refresh(0)
                for volume in pool.listAllVolumes():
                    if not volume.name().startswith("cached-"):
                        volume.delete(0)
                if pool.name() == EXTRA_POOL:
                    pool.destroy()
                    pool.undefine()

    def rich(self, **changes: Any) -> InstanceSpec:
        """A machine with a disk on a cached image, a blank disk and a cloud-init medium."""
        guest = GuestSetup(user_data="#cloud-config\n")
        return self.spec(self.image(), data_disks=(DataDisk(size_bytes=8 * MEBIBYTE),), guest=guest, **changes)

    def migrate(
        self, instance: str, mode: r.MigrateMode, node: str | None = None, call: RecordedCall | None = None
    ) -> Instance:
        request = r.Migrate(instance=instance, node=node or self.nodes[1], mode=mode)
        return self.driver.migrate(call or self.call(), request)

    def slow_down(self, instance: str) -> None:
        """Let a live migration of a running guest take seconds, however fast the machine is."""
        self.native().lookupByUUIDString(instance).migrateSetMaxSpeed(SLOW_MIGRATION_MIB_PER_SECOND)

    def beats(self, instance: str) -> list[tuple[int, float]]:
        """Number and uptime of every beat on the console, oldest first."""
        found = re.findall(r"alive (\d+) uptime=([0-9.]+)\r?\n", self.console(instance))
        return [(int(number), float(uptime)) for number, uptime in found]

    def left(self, node: int, instance: str) -> list[str]:
        """Everything that a node has of an instance: its domain, volumes and logs."""
        name = self.nodes[node]
        seen = self.inventory()
        domains = [identity for _, identity, _, _ in seen[name]["domains"] if identity == instance]
        files = [file for file in seen[f"{name} files"] if instance in file.rpartition("/")[2].replace("cached-", "")]
        own = [file for file in files if "/cached-" not in file]
        return domains + own

    def exists(self, instance: str) -> bool:
        try:
            self.get(instance)
        except NotFound:
            return False
        return True


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def extra_directory(tmp_path_factory) -> Path:
    """A directory from which images may be taken."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def lab(breakable_libvirt_hosts, guest_image, extra_directory) -> Iterator[Lab]:
    """The laboratory, empty of instances before and after."""
    lab = Lab(breakable_libvirt_hosts, guest_image, extra_directory)
    lab.clear()
    for node in lab.nodes:
        lab.driver._fleet.host(node).prepare(Attempt(lab.call()))
    yield lab
    lab.driver.close()
    lab.clear()
