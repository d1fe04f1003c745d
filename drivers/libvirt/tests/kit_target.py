"""What the conformance kit tries the libvirt driver on: two real hosts, with what an operator has there before the first worker.

``python drivers/libvirt/tests/kit_target.py [PROCESSES]`` prepares the parts' hosts for so many processes side by side and
prints the file that ``federation conformance run --driver libvirt --config`` wants; ``… remove`` takes it all away again.

Each process has a cluster, storage pools, a network and volumes of its own.  Most cases boot the bare guest, which obeys the
power button and lets go of devices and costs next to no time under emulation; where the guest's agent is asked it is Linux.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import libvirt
import msgspec

from federation.conformance.target import Conformance, Target
from federation.contract import requests as r
from federation.testing.calls import RecordedCall
from federation.testing.clock import SystemClock
from federation_libvirt.attempt import Attempt
from federation_libvirt.driver import LibvirtDriver
from federation_libvirt.settings import ImageRules, Migration, Settings, Timeouts

MIB = 1 << 20
PROCESS = "{process}"
_VOLUME = (
    "<volume><name>{name}</name><capacity unit='MiB'>16</capacity><target><format type='qcow2'/></target></volume>"
)
_NETWORK = "<network><name>{name}</name></network>"


def make_target(hosts: Any, guest: dict[str, Any], bare: dict[str, Any], name: str) -> Target:
    """The target of one process; ``name`` is its cluster, pool and network, and may hold ``{process}``."""
    folder = upload_folder(hosts)
    base = Path(hosts.facts["hosts"][0]["folder"]).parent
    directories = {str(Path(path).parent) for path in (bare["image"], guest["kernel"], guest["initrd"])}
    rules = ImageRules(schemes=frozenset({"file"}), directories=(*sorted(directories), str(folder)), max_bytes=64 * MIB)
    settings = Settings(
        hosts=hosts.uris,
        pool=name,
        pool_path=f"{base}/{{node}}/volumes/{name}",
        console_path=f"{base}/{{node}}/console/{name}",
        images=rules,
        uploads=rules,
        migration=Migration(addresses=dict.fromkeys(hosts.uris, "127.0.0.1")),
        timeouts=Timeouts(connect_seconds=3, keepalive_seconds=2, settle_tries=4),
    )
    conformance = msgspec.convert(_conformance(guest, bare, folder, name), Conformance)
    return Target(driver="libvirt", settings=msgspec.to_builtins(settings), conformance=conformance)


def upload_folder(hosts: Any) -> Path:
    """Where captures are sent to."""
    return Path(hosts.facts["hosts"][0]["folder"]).parent / "conformance-uploads"


def _conformance(guest: dict[str, Any], bare: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    image = {
        "kind": "image",
        "url": f"file://{bare['image']}",
        "checksum": f"sha256:{bare['image_sha256']}",
        "format": bare["image_format"],
    }
    kernel = {
        "kind": "kernel",
        "kernel_url": f"file://{guest['kernel']}",
        "kernel_checksum": f"sha256:{guest['kernel_sha256']}",
        "initrd_url": f"file://{guest['initrd']}",
        "initrd_checksum": f"sha256:{guest['initrd_sha256']}",
        "command_line": guest["cmdline"],
    }
    return {
        "boots": [image, kernel, {"kind": "template", "template": "base"}, {"kind": "volume", "volume": "golden"}],
        "unavailable_boots": [image | {"url": f"file://{folder}/missing.qcow2", "checksum": "sha256:" + 64 * "2"}],
        "rejected_boots": [image | {"checksum": "sha256:" + 64 * "0"}],
        "tried_on": tried_on(),
        "networks": [name],
        "cluster": name,
        "volumes": ["data-1"],
        "capture_url": f"file://{folder}",
        "memory_bytes": 128 * MIB,
        "resized_memory_bytes": 160 * MIB,
        "guest": {"ready_line": guest["ready_line"], "agent_boot": "kernel"},
        "operation_seconds": 120.0,
        "side_by_side": 3,
    }


def tried_on() -> str:
    """The programs that take part, with their versions."""
    text = subprocess.run(
        ["qemu-system-x86_64", "--version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    qemu = text.split()[3]
    number = libvirt.getVersion()
    return f"QEMU {qemu} (TCG), libvirt {number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}, two hosts"


def prepare(target: Target) -> None:
    """Pools, a network, volumes and a template, as an operator has them before the first worker starts."""
    settings = msgspec.convert(target.settings, Settings)
    Path(target.conformance.capture_url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    for uri in settings.hosts.values():
        with _connection(uri) as native:
            native.networkDefineXML(_NETWORK.format(name=target.conformance.networks[0])).create()
    driver = LibvirtDriver.open(settings, target.conformance.cluster)
    try:
        for node, uri in settings.hosts.items():
            driver._fleet.host(node).prepare(Attempt(_call(target)))
            with _connection(uri) as native:
                pool = native.storagePoolLookupByName(settings.pool)
                for name in ("golden", "data-1"):
                    pool.createXML(_VOLUME.format(name=name))
            _capture_base(driver, target, node)
    finally:
        driver.close()


def _capture_base(driver: LibvirtDriver, target: Target, node: str) -> None:
    spec = {
        "name": f"{target.conformance.cluster}-{node}",
        "node": node,
        "flavour": {"vcpus": 1, "memory_bytes": 128 * MIB},
        "boot": msgspec.to_builtins(target.conformance.boots[0]),
    }
    instance = str(uuid.uuid4())
    driver.create(_call(target), msgspec.convert({"instance": instance, "spec": spec, "start": False}, r.Create))
    capture = {"instance": instance, "target": {"kind": "template", "template": "base"}}
    driver.capture_image(_call(target), msgspec.convert(capture, r.CaptureImage))
    driver.destroy(_call(target), r.Destroy(instance=instance))


def _call(target: Target) -> RecordedCall:
    return RecordedCall(clock=SystemClock(), cluster=target.conformance.cluster)


def remove(target: Target) -> None:
    """The network, the pools and every volume of them; nothing where they are not there."""
    settings = msgspec.convert(target.settings, Settings)
    for uri in settings.hosts.values():
        with _connection(uri) as native:
            for network in native.listAllNetworks():
                if network.name() in target.conformance.networks:
                    network.destroy()
                    network.undefine()
            for one in native.listAllStoragePools():
                if one.name() in {settings.pool, f"{settings.pool}-console"}:
                    for volume in one.listAllVolumes():
                        volume.delete(0)
                    one.destroy()
                    one.undefine()


@contextlib.contextmanager
def _connection(uri: str) -> Any:
    native = libvirt.open(uri)
    try:
        yield native
    finally:
        native.close()


def as_toml(target: Target) -> str:
    """The file for ``federation conformance run``."""
    conformance = msgspec.to_builtins(target.conformance)
    tables = {"driver": target.settings, "conformance": conformance}
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        parts = (f"{json.dumps(key)} = {_value(part)}" for key, part in value.items() if part is not None)
        return f"{{ {', '.join(parts)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def main(arguments: list[str]) -> int:
    """Prepare or remove; 0 when it was done."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
    from parts.bare_guest import BareGuest  # noqa: PLC0415 (found only now)
    from parts.guest import Guest  # noqa: PLC0415
    from parts.libvirt_hosts import LibvirtHosts  # noqa: PLC0415

    parts = [LibvirtHosts(), Guest(), BareGuest()]
    for part in parts:
        part.start()
    hosts, guest, bare = parts[0], parts[1].status(), parts[2].status()
    count = int(arguments[0]) if arguments and arguments[0].isdigit() else 4
    for process in ("main", *(f"gw{number}" for number in range(count))):
        target = make_target(hosts, guest, bare, f"kit-{process}")
        remove(target)
        if arguments[-1:] != ["remove"]:
            prepare(target)
    if arguments[-1:] == ["remove"]:
        shutil.rmtree(upload_folder(hosts), ignore_errors=True)
    else:
        print(as_toml(make_target(hosts, guest, bare, f"kit-{PROCESS}")), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
