"""A laboratory for the driver: VMware's simulator of this test module alone, and eyes of its own on it."""

from __future__ import annotations

import contextlib
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyVmomi import SoapStubAdapter, vim

from federation.contract import requests as r
from federation.contract.errors import NotFound
from federation.contract.instances import BootSource, BootTemplate, Flavour, Instance, InstanceSpec
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.clock import SystemClock
from federation_vmware.driver import VMwareDriver
from federation_vmware.settings import ImageRules, Settings, Timeouts

MEBIBYTE = 1 << 20
CLUSTER = "lab-cluster"
TEMPLATE = "small linux"
TEMPLATE_BYTES = 16 * MEBIBYTE
NETWORK = "VM Network"


class Eyes:
    """vCenter as pyVmomi shows it, without anything of the driver."""

    def __init__(self, vcenter: Any) -> None:
        context = ssl.create_default_context(cafile=vcenter.ca_file)
        stub = SoapStubAdapter(
            host=vcenter.host, port=vcenter.port, path="/sdk", version="vim.version.version11", sslContext=context
        )
        self.content = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        self.content.sessionManager.Login(vcenter.user, vcenter.password, None)
        self.datacenter = self.content.rootFolder.childEntity[0]

    @property
    def cluster(self) -> Any:
        return next(
            one for one in self.datacenter.hostFolder.childEntity if isinstance(one, vim.ClusterComputeResource)
        )

    @property
    def hosts(self) -> list[Any]:
        return sorted(self.cluster.host, key=lambda host: host.name)

    def machines(self) -> list[Any]:
        return [one for one in self.datacenter.vmFolder.childEntity if isinstance(one, vim.VirtualMachine)]

    def machine(self, instance: str) -> Any:
        return self.content.searchIndex.FindByUuid(None, instance, vmSearch=True, instanceUuid=True)

    def datastore(self) -> Any:
        return min(self.datacenter.datastore, key=lambda one: one.name)

    def files(self) -> set[str]:
        """Every file of every datastore; the simulator keeps them in folders of this machine."""
        found = set()
        for datastore in self.datacenter.datastore:
            folder = Path(datastore.summary.url)
            found |= {f"[{datastore.name}] {path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}
        return found

    def events(self, kind: type) -> list[Any]:
        """vCenter's last thousand events of a kind."""
        name = kind.__name__.rsplit(".", 1)[-1]
        found = self.content.eventManager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=[name], maxCount=1000))
        return [event for event in found or () if isinstance(event, kind)]

    def make(self, name: str, host: int = 0, size: int = TEMPLATE_BYTES, instance: str | None = None) -> Any:
        """A machine that is nobody's, as a person would make it."""
        controller = vim.vm.device.ParaVirtualSCSIController(key=-100, busNumber=0, sharedBus="noSharing")
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName="", diskMode="persistent", thinProvisioned=True
        )
        disk = vim.vm.device.VirtualDisk(
            key=-101, controllerKey=-100, unitNumber=0, backing=backing, capacityInKB=size // 1024, capacityInBytes=size
        )
        add = vim.vm.device.VirtualDeviceSpec
        spec = vim.vm.ConfigSpec(
            name=name,
            guestId="otherGuest64",
            numCPUs=1,
            memoryMB=64,
            instanceUuid=instance or str(uuid.uuid4()),
            files=vim.vm.FileInfo(vmPathName=f"[{self.datastore().name}]"),
            deviceChange=[
                add(operation="add", device=controller),
                add(operation="add", fileOperation="create", device=disk),
            ],
        )
        task = self.datacenter.vmFolder.CreateVM_Task(spec, self.cluster.resourcePool, self.hosts[host])
        assert task.info.state == "success", task.info.error
        return task.info.result

    def make_template(self, name: str = TEMPLATE) -> None:
        machine = self.make(name)
        assert machine.CreateSnapshot_Task("base", "", memory=False, quiesce=False).info.state == "success"
        machine.MarkAsTemplate()


class Lab:
    """A driver on the simulator, and what a test needs to make, watch and compare instances."""

    def __init__(self, vcenter: Any, folder: Path, **changes: Any) -> None:
        self.vcenter = vcenter
        self.eyes = Eyes(vcenter)
        secret = folder / "driver-password"
        secret.write_text(vcenter.password)
        self.images = folder / "images"
        self.images.mkdir(exist_ok=True)
        fields: dict[str, Any] = {
            "host": vcenter.host,
            "port": vcenter.port,
            "username": vcenter.user,
            "password_file": str(secret),
            "ca_file": vcenter.ca_file,
            "datastore": self.eyes.datastore().name,
            "images": ImageRules(schemes=frozenset({"file"}), directories=(str(self.images),)),
            "timeouts": Timeouts(request_seconds=10, task_seconds=60, busy_seconds=5, cancel_seconds=5, settle_tries=4),
        }
        self.settings = Settings(**{**fields, **changes})
        self.nodes = [host.name for host in self.eyes.hosts]
        self.drivers: list[VMwareDriver] = []
        self.driver = self.another_driver()

    def another_driver(self, **changes: object) -> VMwareDriver:
        """A driver as a new worker process would have it."""
        driver = VMwareDriver.open(msgspec.structs.replace(self.settings, **changes), CLUSTER)
        self.drivers.append(driver)
        return driver

    @staticmethod
    def call(**options: Any) -> RecordedCall:
        return RecordedCall(clock=SystemClock(), cluster=CLUSTER, **options)

    def spec(self, boot: BootSource | None = None, **changes: Any) -> InstanceSpec:
        fields = {
            "name": f"lab-{uuid.uuid4().hex[:8]}",
            "node": self.nodes[0],
            "flavour": Flavour(vcpus=1, memory_bytes=128 * MEBIBYTE),
            "boot": boot or BootTemplate(template=TEMPLATE),
        }
        return InstanceSpec(**{**fields, **changes})

    def create(self, spec: InstanceSpec | None = None, *, start: bool = True) -> Instance:
        request = r.Create(instance=str(uuid.uuid4()), spec=spec or self.spec(), start=start)
        return self.driver.create(self.call(), request)

    def get(self, instance: str) -> Instance:
        return self.driver.get_instance(self.call(), r.GetInstance(instance=instance))

    def exists(self, instance: str) -> bool:
        try:
            self.get(instance)
        except NotFound:
            return False
        return True

    def destroy(self, instance: str) -> None:
        self.driver.destroy(self.call(), r.Destroy(instance=instance))

    def killed(self, operation: str, call: RecordedCall, request: r.Request) -> None:
        """Run until the call's crash; one that asks for less leave than that ends by itself, after its last change."""
        with contextlib.suppress(SimulatedCrash):
            getattr(self.driver, operation)(call, request)

    def meddling(self, at: int, action: Callable[[], object]) -> RecordedCall:
        """A call that lets something happen in vCenter right before its n-th change is sent."""
        call = self.call()
        guard = call.guard

        def guarded() -> None:
            guard()
            if call.guards == at:
                action()

        call.guard = guarded
        return call

    def close(self) -> None:
        for driver in self.drivers:
            driver.close()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def vcenter(vcenter_simulator, tmp_path_factory) -> Iterator[Any]:
    """A simulator of the module's own: a bad request may end it."""
    vcenter = vcenter_simulator.launch(tmp_path_factory.mktemp("vcenter"), "-hosts", "3", "-vms", "1")
    Eyes(vcenter).make_template()
    yield vcenter
    vcenter.stop()


@pytest.fixture
def lab(vcenter, tmp_path) -> Iterator[Lab]:
    """The laboratory; what a test made is removed after it."""
    lab = Lab(vcenter, tmp_path)
    kept = {one._GetMoId() for one in lab.eyes.machines()}
    yield lab
    lab.close()
    for machine in lab.eyes.machines():
        if machine._GetMoId() not in kept:
            if machine.runtime.powerState == "poweredOn":
                machine.PowerOffVM_Task()
            machine.Destroy_Task()
