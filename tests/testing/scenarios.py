"""One scenario for every ordered operation of the contract: what comes before it, and its request."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from federation.contract import requests as r
from federation.contract.captures import CaptureTemplate
from federation.contract.instances import (
    BootImage,
    BootTemplate,
    BootVolume,
    DataDisk,
    Flavour,
    GuestSetup,
    ImageFormat,
    InstanceSpec,
    Interface,
)
from federation.contract.volumes import NewVolume, StoredVolume
from federation.testing.calls import RecordedCall
from federation.testing.hypervisor.settings import ForeignSettings, StoredSettings
from federation.testing.simulated import SimulatedDriver

MIB = 1 << 20
GIB = 1 << 30
INSTANCE = "11111111-1111-4111-8111-111111111111"
SNAPSHOT = "22222222-2222-4222-8222-222222222222"
NODE_KEY = "node:test/node-1"
MAC = "52:54:00:ab:cd:ef"
PASSWORD = "correct horse battery staple"
STORAGE = {
    "pools": ("default", "slow"),
    "volumes": (StoredSettings(name="spare"), StoredSettings(name="system", content="installed")),
    "templates": (StoredSettings(name="golden", content="golden"),),
}
"""What every test's hypervisor has in its storage."""
CHECKSUM = "sha256:" + "0" * 64


def image(url="https://images.example/linux.qcow2", **more):
    return BootImage(
        url=url, checksum=more.pop("checksum", CHECKSUM), format=more.pop("format", ImageFormat.QCOW2), **more
    )


def spec(name="one", **more):
    given = {"node": "node-1", "flavour": Flavour(vcpus=2, memory_bytes=GIB), "boot": image()} | more
    return InstanceSpec(name=name, **given)


def full_spec(name="one"):
    return spec(
        name,
        data_disks=(DataDisk(size_bytes=10 * MIB), DataDisk(size_bytes=20 * MIB)),
        interfaces=(Interface(network="lan"),),
        guest=GuestSetup(user_data="#cloud-config\n"),
        metadata={"owner": "tests"},
    )


def create(instance=INSTANCE, *, start=True, **more):
    return r.Create(instance=instance, spec=spec(**more), start=start)


def node(driver, name="node-1"):
    nodes = driver.list_nodes(RecordedCall(), r.ListNodes()).nodes
    return next(one for one in nodes if one.name == name)


def new_id():
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Named:
    """A request of an operation whose id matters later."""

    operation: str
    request: r.Request


def do(driver: SimulatedDriver, request: r.Request | Named, call: RecordedCall | None = None):
    """Run the operation that takes this request."""
    if isinstance(request, Named):
        return do(driver, request.request, RecordedCall(request.operation))
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(request).__name__)
    return getattr(driver, name.strip("_"))(call or RecordedCall(), request)


def snapshot(operation=SNAPSHOT, **more):
    """Take a snapshot whose id is known."""
    return Named(operation, r.CreateSnapshot(instance=INSTANCE, name=f"before {operation[:4]}", **more))


@dataclass(frozen=True)
class Scenario:
    before: tuple[r.Request | Named, ...]
    request: r.Request
    settings: dict[str, object] = field(default_factory=dict)


_CREATE = r.Create(instance=INSTANCE, spec=full_spec())
_STOPPED = r.Create(instance=INSTANCE, spec=full_spec(), start=False)
_OF_VOLUME = r.Create(instance=INSTANCE, spec=spec(boot=BootVolume(volume="system")))
_OF_TEMPLATE = r.Create(instance=INSTANCE, spec=spec(boot=BootTemplate(template="golden", linked=True)))
_ATTACH = r.AttachVolume(instance=INSTANCE, volume=StoredVolume(volume="spare"))
_ATTACH_NEW = r.AttachVolume(instance=INSTANCE, volume=NewVolume(volume="made", size_bytes=GIB, pool="slow"))
_DETACH_MADE = r.DetachVolume(instance=INSTANCE, volume="made", pool="slow", delete=True, timeout_seconds=600)
_PLUG = r.AttachInterface(instance=INSTANCE, interface=Interface(network="lan", vlan=7, mac=MAC))
_REVERT = r.RevertSnapshot(instance=INSTANCE, snapshot=SNAPSHOT)
_STRANGE = {"foreign": (ForeignSettings(id=INSTANCE, name="strange", disks=(GIB,), networks=("lan",)),)}
_SMALLER = Flavour(vcpus=1, memory_bytes=GIB // 2)
_LARGER = Flavour(vcpus=4, memory_bytes=2 * GIB)

SCENARIOS: dict[str, Scenario] = {
    "create": Scenario((), _CREATE),
    "create stopped": Scenario((), _STOPPED),
    "destroy": Scenario((_CREATE,), r.Destroy(instance=INSTANCE)),
    "destroy suspended": Scenario((_CREATE, r.Suspend(instance=INSTANCE)), r.Destroy(instance=INSTANCE)),
    "destroy nothing": Scenario((), r.Destroy(instance=INSTANCE)),
    "resize": Scenario((_STOPPED,), r.Resize(instance=INSTANCE, flavour=_SMALLER)),
    "resize live": Scenario((_CREATE,), r.Resize(instance=INSTANCE, flavour=_LARGER, live=True)),
    "power_on": Scenario((_STOPPED,), r.PowerOn(instance=INSTANCE)),
    "power_on suspended": Scenario((_CREATE, r.Suspend(instance=INSTANCE)), r.PowerOn(instance=INSTANCE)),
    "power_off": Scenario((_CREATE,), r.PowerOff(instance=INSTANCE)),
    "power_off graceful": Scenario(
        (_CREATE,), r.PowerOff(instance=INSTANCE, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=600)
    ),
    "power_off suspended": Scenario((_CREATE, r.Suspend(instance=INSTANCE)), r.PowerOff(instance=INSTANCE)),
    "reboot": Scenario((_CREATE,), r.Reboot(instance=INSTANCE)),
    "reboot soft": Scenario((_CREATE,), r.Reboot(instance=INSTANCE, mode=r.RebootMode.SOFT, timeout_seconds=600)),
    "pause": Scenario((_CREATE,), r.Pause(instance=INSTANCE)),
    "unpause": Scenario((_CREATE, r.Pause(instance=INSTANCE)), r.Unpause(instance=INSTANCE)),
    "suspend": Scenario((_CREATE,), r.Suspend(instance=INSTANCE)),
    "resume": Scenario((_CREATE, r.Suspend(instance=INSTANCE)), r.Resume(instance=INSTANCE)),
    "create from volume": Scenario((), _OF_VOLUME),
    "create from template": Scenario((), _OF_TEMPLATE),
    "destroy with volumes": Scenario((_OF_VOLUME, _ATTACH), r.Destroy(instance=INSTANCE)),
    "destroy with snapshots": Scenario((_CREATE, snapshot(memory=True)), r.Destroy(instance=INSTANCE)),
    "adopt": Scenario((), r.Adopt(instance=INSTANCE, name="one", node="node-1", metadata={"a": "b"}), _STRANGE),
    "set_node_maintenance": Scenario((), r.SetNodeMaintenance(node="node-1", enabled=True)),
    "set_node_maintenance off": Scenario(
        (r.SetNodeMaintenance(node="node-1", enabled=True),), r.SetNodeMaintenance(node="node-1", enabled=False)
    ),
    "attach_volume": Scenario((_CREATE,), _ATTACH),
    "attach_volume stopped": Scenario((_STOPPED,), _ATTACH),
    "attach_volume new": Scenario((_CREATE,), _ATTACH_NEW),
    "detach_volume": Scenario(
        (_CREATE, _ATTACH), r.DetachVolume(instance=INSTANCE, volume="spare", timeout_seconds=600)
    ),
    "detach_volume delete": Scenario((_CREATE, _ATTACH_NEW, _ATTACH), _DETACH_MADE),
    "extend_volume": Scenario(
        (_CREATE, _ATTACH), r.ExtendVolume(instance=INSTANCE, volume="spare", size_bytes=2 * GIB)
    ),
    "attach_interface": Scenario((_CREATE,), r.AttachInterface(instance=INSTANCE, interface=Interface(network="lan"))),
    "attach_interface named": Scenario((_STOPPED,), _PLUG),
    "detach_interface": Scenario((_CREATE, _PLUG), r.DetachInterface(instance=INSTANCE, mac=MAC, timeout_seconds=600)),
    "create_snapshot": Scenario((_CREATE,), r.CreateSnapshot(instance=INSTANCE, name="first")),
    "create_snapshot memory": Scenario((_CREATE,), r.CreateSnapshot(instance=INSTANCE, name="first", memory=True)),
    "create_snapshot quiesced": Scenario((_CREATE,), r.CreateSnapshot(instance=INSTANCE, name="first", quiesce=True)),
    "revert_snapshot": Scenario((_CREATE, snapshot(), r.Reboot(instance=INSTANCE)), _REVERT),
    "revert_snapshot memory": Scenario((_CREATE, snapshot(memory=True), r.PowerOff(instance=INSTANCE)), _REVERT),
    "delete_snapshot": Scenario(
        (_CREATE, snapshot(), snapshot(new_id())), r.DeleteSnapshot(instance=INSTANCE, snapshot=SNAPSHOT)
    ),
    "capture_image": Scenario(
        (_STOPPED,), r.CaptureImage(instance=INSTANCE, target=CaptureTemplate(template="captured"))
    ),
    "migrate": Scenario((_CREATE,), r.Migrate(instance=INSTANCE, node="node-2")),
    "migrate cold": Scenario((_STOPPED,), r.Migrate(instance=INSTANCE, node="node-2", mode=r.MigrateMode.COLD)),
    "set_admin_password": Scenario((_CREATE,), r.SetAdminPassword(instance=INSTANCE, password=PASSWORD)),
    "send_nmi": Scenario((_CREATE,), r.SendNmi(instance=INSTANCE)),
}

Prepare = Callable[[], SimulatedDriver]
