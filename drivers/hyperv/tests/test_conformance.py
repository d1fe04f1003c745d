"""The driver passes the conformance kit on simulated hosts that run in a process of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from federation.conformance.suite import *  # noqa: F403 (every case of the kit)
from federation.conformance.target import Conformance, Target
from federation_hyperv.testing.vhdx import DYNAMIC, DiskFacts, write_vhdx

MIB = 1 << 20
HOSTS = ("HV1", "HV2")
pytestmark = [pytest.mark.kit, pytest.mark.slow, pytest.mark.timeout(600)]


@contextlib.contextmanager
def _hosts(folder: Path):
    """Where the simulated hosts listen, by name; they end with the block."""
    password = folder / "password"
    password.write_text("kit-password")
    names = [part for name in HOSTS for part in ("--host", name)]
    command = [
        sys.executable, "-c", "from federation_hyperv.testing.command import main; main()", "--folder",
        str(folder / "hosts"), "--password-file", str(password), "--job-seconds", "0.02", *names,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["hosts"]
    finally:
        process.terminate()
        process.wait(20)


def _settings(folder: Path, where: dict[str, dict[str, object]]) -> dict[str, object]:
    rules = {"schemes": ["file"], "directories": [str(folder / "images")]}
    return {
        "authentication": "ntlm",
        "tls": False,
        "username": "federation",
        "password_file": str(folder / "password"),
        "reserved_memory_bytes": 0,
        "images": rules,
        "uploads": rules,
        "timeouts": {"read_seconds": 10.0, "settle_tries": 2},
        "hosts": {
            name: place | {"mount": str(_folder(folder, name)), "migration_address": name}
            for name, place in where.items()
        },
    }


def _folder(folder: Path, host: str) -> Path:
    return folder / "hosts" / host / "C" / "Federation"


def _conformance(folder: Path) -> Conformance:
    for file in [folder / "images" / "base.vhdx", *(
        _folder(folder, host) / name for host in HOSTS for name in ("golden.vhdx", "data-1.vhdx", "template-base.vhdx")
    )]:  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        write_vhdx(file, DiskFacts(kind=DYNAMIC, size_bytes=64 * MIB))
    base = folder / "images" / "base.vhdx"
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    image = {"kind": "image", "url": base.as_uri(), "checksum": f"sha256:{digest}", "format": "vhdx"}
    given = {
        "boots": [image, {"kind": "template", "template": "base"}, {"kind": "volume", "volume": "golden"}],
        "unavailable_boots": [
            image | {"url": f"file://{folder}/images/missing.vhdx", "checksum": "sha256:" + 64 * "2"}
        ],
        "rejected_boots": [image | {"checksum": "sha256:" + 64 * "1"}],
        "networks": ["external"],
        "volumes": ["data-1"],
        "capture_url": f"file://{folder}/images",
        "capture_format": "vhdx",
        "observer": "federation_hyperv.testing.observer:HypervObserver",
        "side_by_side": 3,
        "tried_on": "this distribution's simulated Hyper-V hosts, over NTLM with encrypted messages",
    }
    return msgspec.convert(given, Conformance)


@pytest.fixture(scope="session")
def conformance_target():
    folder = Path(tempfile.mkdtemp(prefix="conformance-hyperv-"))
    try:
        with _hosts(folder) as where:
            yield Target(driver="hyperv", settings=_settings(folder, where), conformance=_conformance(folder))
    finally:
        shutil.rmtree(folder)
