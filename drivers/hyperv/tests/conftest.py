"""Simulated hosts for the tests of this driver, and clients that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.testing.cluster import Settings, SimulatedCluster, running
from federation_hyperv.testing.host import HostFacts
from federation_hyperv.wsman import Host, Login, follow

HOSTS = (HostFacts(name="HV1", job_seconds=0.02), HostFacts(name="HV2", job_seconds=0.02))


def login_to(cluster: SimulatedCluster, name: str = "HV1", **changes) -> Login:
    settings = {
        "address": "127.0.0.1", "port": cluster.port(name), "tls": False, "authentication": "ntlm",
        "username": cluster.settings.username, "password": cluster.settings.password, "operation_seconds": 10,
    }  # fmt: skip
    return Login(**(settings | changes))


@pytest.fixture(name="login_to")
def _login_to():
    return login_to


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SimulatedCluster]:
    with running(tmp_path / "hosts", Settings(hosts=HOSTS)) as started:
        yield started


@pytest.fixture
def connect(cluster: SimulatedCluster) -> Iterator[Callable[..., Host]]:
    opened: list[Host] = []

    def open_host(name: str = "HV1", **changes) -> Host:
        opened.append(Host(login_to(cluster, name, **changes)))
        return opened[-1]

    yield open_host
    for host in opened:
        host.close()


@pytest.fixture
def host(connect: Callable[..., Host]) -> Host:
    return connect()


class Operator:
    """What a test does with one host, in few words; every call is a real request."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.computer_name()

    def service(self, name: str) -> Reference:
        return self.host.enumerate_class(f"Msvm_{name}")[0].reference

    def call(self, service: str, method: str, **arguments):
        outputs = self.host.invoke(self.service(service), method, **arguments)
        follow(self.host, outputs, seconds=10, pause_seconds=0.01)
        return outputs

    def define(self, name: str, **settings) -> Reference:
        asked = Instance("Msvm_VirtualSystemSettingData", {
            "ElementName": name, "VirtualSystemSubType": "Microsoft:Hyper-V:SubType:2", **settings,
        })  # fmt: skip
        return self.call("VirtualSystemManagementService", "DefineSystem", SystemSettings=asked)["ResultingSystem"]

    def settings(self, machine: Reference) -> Instance:
        return self.host.associators(machine, association="Msvm_SettingsDefineState")[0]

    def state(self, machine: Reference) -> int:
        return self.host.get(machine)["EnabledState"]

    def request(self, machine: Reference, state: int) -> None:
        outputs = self.host.invoke(machine, "RequestStateChange", RequestedState=state)
        follow(self.host, outputs, seconds=10, pause_seconds=0.01)

    def default(self, subtype: str) -> Instance:
        wql = (
            "SELECT * FROM CIM_ResourceAllocationSettingData WHERE ResourceSubType = "
            f"'Microsoft:Hyper-V:{subtype}' AND InstanceID LIKE '%\\\\Default'"
        )
        return self.host.query(wql)[0]

    def add(self, machine: Reference, resource: Instance) -> Instance:
        outputs = self.call(
            "VirtualSystemManagementService", "AddResourceSettings",
            AffectedConfiguration=self.settings(machine).reference, ResourceSettings=[resource],
        )  # fmt: skip
        return self.host.get(outputs["ResultingResourceSettings"][0])

    def disk(self, path: str, size: int = 1 << 30, **more) -> None:
        asked = Instance("Msvm_VirtualHardDiskSettingData", {
            "Path": path, "Type": 3, "Format": 3, "MaxInternalSize": size, **more,
        })  # fmt: skip
        self.call("ImageManagementService", "CreateVirtualHardDisk", VirtualDiskSettingData=asked)

    def attach(self, machine: Reference, path: str) -> Instance:
        controller = self.add(machine, self.default("Synthetic SCSI Controller"))
        drive = self.add(
            machine, self.default("Synthetic Disk Drive").copy(Parent=controller.path, AddressOnParent="0")
        )
        return self.add(machine, self.default("Virtual Hard Disk").copy(Parent=drive.path, HostResource=[path]))


@pytest.fixture
def operator(host: Host) -> Operator:
    return Operator(host)
