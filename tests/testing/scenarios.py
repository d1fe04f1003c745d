"""One scenario for every ordered operation of the contract: what comes before it, and its request."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from federation.contract import requests as r
from federation.contract.instances import (
    BootImage,
    DataDisk,
    Flavour,
    GuestSetup,
    ImageFormat,
    InstanceSpec,
    Interface,
)
from federation.testing.calls import RecordedCall
from federation.testing.simulated import SimulatedDriver

MIB = 1 << 20
GIB = 1 << 30
INSTANCE = "11111111-1111-4111-8111-111111111111"
CHECKSUM = "sha256:" + "0" * 64


def image(url="https://images.example/linux.qcow2", **more):
    return BootImage(
        url=url, checksum=more.pop("checksum", CHECKSUM), format=more.pop("format", ImageFormat.QCOW2), **more
    )


def spec(name="one", **more):
    given = {"node": "kvm-1", "flavour": Flavour(vcpus=2, memory_bytes=GIB), "boot": image()} | more
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


def node(driver, name="kvm-1"):
    nodes = driver.list_nodes(RecordedCall(), r.ListNodes()).nodes
    return next(one for one in nodes if one.name == name)


def new_id():
    return str(uuid.uuid4())


def do(driver: SimulatedDriver, request: r.Request, call: RecordedCall | None = None):
    """Run the operation that takes this request."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(request).__name__)
    return getattr(driver, name.strip("_"))(call or RecordedCall(), request)


@dataclass(frozen=True)
class Scenario:
    before: tuple[r.Request, ...]
    request: r.Request


_CREATE = r.Create(instance=INSTANCE, spec=full_spec())
_STOPPED = r.Create(instance=INSTANCE, spec=full_spec(), start=False)
_SMALLER = Flavour(vcpus=1, memory_bytes=GIB // 2)

SCENARIOS: dict[str, Scenario] = {
    "create": Scenario((), _CREATE),
    "create stopped": Scenario((), _STOPPED),
    "destroy": Scenario((_CREATE,), r.Destroy(instance=INSTANCE)),
    "destroy suspended": Scenario((_CREATE, r.Suspend(instance=INSTANCE)), r.Destroy(instance=INSTANCE)),
    "destroy nothing": Scenario((), r.Destroy(instance=INSTANCE)),
    "resize": Scenario((_STOPPED,), r.Resize(instance=INSTANCE, flavour=_SMALLER)),
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
}

Prepare = Callable[[], SimulatedDriver]
