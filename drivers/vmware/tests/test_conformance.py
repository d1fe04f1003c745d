"""The driver passes the conformance kit on VMware's simulator."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.conformance.suite import *  # noqa: F403 (every case of the kit)
from federation.conformance.target import Conformance, Target
from federation_vmware.settings import ImageRules, Settings, Timeouts

MIB = 1 << 20
pytestmark = [pytest.mark.kit, pytest.mark.vcenter, pytest.mark.slow]


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"vmware_kit_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_eyes, _disks = _load("vcenter_eyes"), _load("disk_files")

DESCRIPTOR = 'version=1\ncreateType="vmfs"\nRW {sectors} VMFS "{name}-flat.vmdk"\n'


def _settings(vcenter: Any, folder: Path) -> Settings:
    secret = folder / "driver-password"
    secret.write_text(vcenter.password)
    return Settings(
        host=vcenter.host,
        port=vcenter.port,
        username=vcenter.user,
        password_file=str(secret),
        ca_file=vcenter.ca_file,
        datastore="LocalDS_0",
        hot_add=True,
        images=ImageRules(schemes=frozenset({"file"}), directories=(str(folder),)),
        timeouts=Timeouts(request_seconds=20, busy_seconds=5, cancel_seconds=5, settle_tries=4),
    )


def _prepare(eyes: Any, folder: Path) -> dict[str, Any]:
    """A template, volumes and an image, as an operator has them before the first worker starts."""
    eyes.plant_template("base")
    eyes.define_attributes()
    datastore = min(eyes._datacenter.datastore, key=lambda one: one.name)
    volumes = Path(datastore.summary.url) / "federation-volumes"
    volumes.mkdir()
    for name in ("golden", "data-1"):
        (volumes / f"{name}.vmdk").write_text(DESCRIPTOR.format(sectors=16 * MIB // 512, name=name))
        (volumes / f"{name}-flat.vmdk").write_bytes(b"")
    (folder / "disk.raw").write_bytes(b"kit" + bytes(MIB - 3))
    disk = _disks.qemu_img(folder / "disk.raw", folder / "disk.vmdk", "streamOptimized")
    image = folder / "image.ova"
    image.write_bytes(_disks.ova(disk))
    return {
        "kind": "image",
        "url": f"file://{image}",
        "checksum": f"sha256:{hashlib.sha256(image.read_bytes()).hexdigest()}",
        "format": "vmdk",
    }


@pytest.fixture(scope="session")
def conformance_target(vcenter_simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vcenter-kit")
    vcenter = vcenter_simulator.launch(folder, "-hosts", "3", "-vms", "0")
    settings = _settings(vcenter, folder)
    image = _prepare(_eyes.VCenterEyes(settings, "kit", {}), folder)
    given = {
        "cluster": "kit",
        "tried_on": "VMware's simulator of a vCenter (govmomi 0.24.2), over TLS",
        "boots": [{"kind": "template", "template": "base"}, image, {"kind": "volume", "volume": "golden"}],
        "unavailable_boots": [image | {"url": f"file://{folder}/missing.raw"}],
        "rejected_boots": [image | {"checksum": "sha256:" + 64 * "0"}],
        "networks": ["VM Network"],
        "volumes": ["data-1"],
        "memory_bytes": 128 * MIB,
        "resized_memory_bytes": 160 * MIB,
        "operation_seconds": 60.0,
        "side_by_side": 3,
    }
    yield Target(
        driver="vmware",
        settings=msgspec.to_builtins(settings),
        conformance=msgspec.convert(given, Conformance),
    )
    vcenter.stop()


@pytest.fixture(scope="session")
def conformance_observer(conformance_target):
    settings = msgspec.convert(conformance_target.settings, Settings)
    return _eyes.VCenterEyes(settings, conformance_target.conformance.cluster, {})
