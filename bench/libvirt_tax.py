"""The bus's tax on a real operation: pause and unpause of a Linux guest, through the federation and by the driver alone."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
from broker import Broker
from rig import rig
from tables import show

from federation.contract.call import Call
from federation.contract.requests import Pause, Unpause
from federation.testing.calls import RecordedCall
from federation.worker.drivers import find_driver

_CLUSTER = "tax"


def measure(broker: Broker, *, quick: bool) -> dict[str, Any]:
    """In turns on one machine, so that a busy host weighs on both."""
    rounds = 20 if quick else 100
    uri, kernel, initrd = (_needed(name) for name in ("LIBVIRT", "GUEST_KERNEL", "GUEST_INITRD"))
    config = _config(uri.split()[0], Path(kernel).parent)
    through: list[float] = []
    direct: list[float] = []
    with rig(broker) as here:
        here.make_cluster(_CLUSTER, "libvirt")
        here.start_workers(_CLUSTER, ("tax-w0",), config, "libvirt")
        boot = {"kind": "kernel", "command_line": "console=ttyS0 panic=1"}
        for part, path in (("kernel", kernel), ("initrd", initrd)):
            boot |= {f"{part}_url": Path(path).as_uri(), f"{part}_checksum": _checksum(Path(path))}
        flavour = {"vcpus": 1, "memory_bytes": 256 << 20}
        made = here.submit("create", _CLUSTER, spec={"name": "tax", "flavour": flavour, "boot": boot})
        here.wait([made.id])
        kind = find_driver("libvirt")
        driver: Any = kind.open(_settings(kind, config), _CLUSTER)
        try:
            for _ in range(rounds):
                through += [_through(here, name, made.key) for name in ("pause", "unpause")]
                direct += [_direct(driver, name, made.key) for name in ("pause", "unpause")]
        finally:
            driver.close()
            here.wait([here.submit("destroy", instance=made.key).id])
    result = {
        "through_federation_ms_p50": statistics.median(through) * 1000,
        "driver_alone_ms_p50": statistics.median(direct) * 1000,
        "ratio_p50": statistics.median(through) / statistics.median(direct),
        "operations": len(through),
    }
    result["tax_ms_p50"] = result["through_federation_ms_p50"] - result["driver_alone_ms_p50"]
    show(
        "Pause or unpause of a real guest, median milliseconds",
        [result],
        {
            "through_federation_ms_p50": "through the federation",
            "driver_alone_ms_p50": "driver alone",
            "tax_ms_p50": "tax",
            "ratio_p50": "ratio",
        },
    )
    return result


def _through(here: Any, name: str, instance: str) -> float:
    began = time.perf_counter()
    record = here.submit(name, instance=instance)
    here.wait([record.id])
    return float(here.finished[record.id] - began)


def _direct(driver: Any, name: str, instance: str) -> float:
    request = Pause(instance=instance) if name == "pause" else Unpause(instance=instance)
    call: Call = RecordedCall(str(uuid.uuid4()))
    began = time.perf_counter()
    getattr(driver, name)(call, request)
    return time.perf_counter() - began


def _needed(name: str) -> str:
    value = os.environ.get(f"FEDERATION_TEST_{name}")
    if not value:
        message = f'FEDERATION_TEST_{name} is not set; run: eval "$(python3 tests/parts all env)"'
        raise SystemExit(message)
    return value


def _config(uri: str, images: Path) -> dict[str, Any]:
    _, _, socket = uri.partition("socket=")
    base = Path(socket).parent.parent if socket else Path("/var/lib/libvirt/federation")
    name = f"tax-{uuid.uuid4().hex[:8]}"
    return {
        "pool": name,
        "pool_path": str(base / "volumes" / name),
        "console_path": str(base / "console" / name),
        "hosts": {"node0": uri},
        "images": {"schemes": ["file"], "directories": [str(images)]},
    }


def _settings(kind: Any, config: dict[str, Any]) -> Any:
    return msgspec.convert(config, kind.settings)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
