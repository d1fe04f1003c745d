"""Datastore clusters: which member is taken, and that a volume is found on it again."""

from __future__ import annotations

import importlib.util
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from federation.contract import requests as r
from federation.contract.errors import (
    HypervisorRefused,
)
from federation.contract.instances import (
    DataDisk,
)
from federation.contract.volumes import NewVolume, StoredVolume

MEBIBYTE = 1 << 20
_spec = importlib.util.spec_from_file_location("vmware_clusters_lab", Path(__file__).with_name("conftest.py"))
_lab: Any = importlib.util.module_from_spec(_spec)
sys.modules["vmware_clusters_lab"] = _lab
_spec.loader.exec_module(_lab)
Lab = _lab.Lab
_spec = importlib.util.spec_from_file_location("vmware_clusters_proxy", Path(__file__).with_name("faulty_proxy.py"))
_proxies: Any = importlib.util.module_from_spec(_spec)
sys.modules["vmware_clusters_proxy"] = _proxies
_spec.loader.exec_module(_proxies)


@pytest.fixture
def clustered(vcenter_simulator, tmp_path):
    """A vCenter of its own whose datastores are a datastore cluster, but for one."""
    folder = tmp_path / "clustered"
    folder.mkdir()
    vcenter = vcenter_simulator.launch(folder, "-hosts", "1", "-pods", "1", "-datastores", "3")
    lab = Lab(vcenter, folder)
    pod = next(one for one in lab.eyes.datacenter.datastoreFolder.childEntity if isinstance(one, vim.StoragePod))
    outside, *members = sorted(lab.eyes.datacenter.datastore, key=lambda one: one.name)
    assert pod.MoveIntoFolder_Task(members).info.state == "success"
    yield lab, pod.name, outside.name
    lab.close()
    vcenter.stop()


def test_a_datastore_cluster_takes_new_machines_and_volumes_on_one_of_its_members(clustered):
    lab, name, outside = clustered
    lab.eyes.make_template()
    driver = lab.another_driver(datastore="", datastore_cluster=name)
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec(data_disks=(DataDisk(size_bytes=MEBIBYTE),)))
    driver.create(lab.call(), request)
    wanted = r.Create(instance=str(uuid.uuid4()), spec=lab.spec())
    path = lab.eyes.machine(request.instance).config.files.vmPathName
    assert path.startswith("[LocalDS_")
    assert not path.startswith(f"[{outside}]")
    folders = {file.partition("] ")[0] for file in lab.eyes.files() if request.spec.name in file}
    assert folders == {path.partition("] ")[0]}, "data disks are where the machine is"
    by_option = r.Create(
        instance=str(uuid.uuid4()), spec=lab.spec(extensions={"vmware": {"datastore_cluster": name}}), start=False
    )
    lab.driver.create(lab.call(), by_option)
    assert not lab.eyes.machine(by_option.instance).config.files.vmPathName.startswith(f"[{outside}]")
    with pytest.raises(HypervisorRefused, match="no datastore none such"):
        lab.another_driver(datastore="", datastore_cluster="none such").create(lab.call(), wanted)


def test_a_volume_without_a_pool_is_found_where_it_is_however_free_space_changes(clustered, tmp_path):
    lab, name, _ = clustered
    lab.eyes.make_template()
    proxy = _proxies.FaultyProxy(lab.vcenter, tmp_path / "proxy")
    driver = lab.another_driver(datastore="", datastore_cluster=name, port=proxy.port, ca_file=proxy.ca_file)
    instance = driver.create(lab.call(), r.Create(instance=str(uuid.uuid4()), spec=lab.spec(), start=False)).id
    wanted = r.AttachVolume(instance=instance, volume=NewVolume(volume="data", size_bytes=MEBIBYTE))
    call = lab.call()
    driver.attach_volume(call, wanted)
    home = lab.eyes.machine(instance).config.files.vmPathName.partition("]")[0]
    assert [file for file in lab.eyes.files() if "federation-volumes/data.vmdk" in file] == [
        f"{home}] federation-volumes/data.vmdk"
    ]
    full = re.compile(
        home.removeprefix("[").encode() + rb"</val></propSet>(.*?)<name>summary.freeSpace</name><val [^>]*>"
    )
    rule = _proxies.Rule(
        "RetrievePropertiesEx",
        after=lambda answer: full.sub(lambda found: found[0][:-1] + b">0", answer, count=1),
        times=-1,
        contains=b"summary.freeSpace",
    )
    proxy.rules.append(rule)
    again = lab.call(operation=call.operation, attempt=2)
    driver.attach_volume(again, wanted)
    assert again.guards == 0
    grown = driver.extend_volume(lab.call(), r.ExtendVolume(instance=instance, volume="data", size_bytes=2 * MEBIBYTE))
    assert grown.size_bytes == 2 * MEBIBYTE
    driver.detach_volume(lab.call(), r.DetachVolume(instance=instance, volume="data"))
    assert [disk.volume for disk in lab.driver.get_instance(lab.call(), r.GetInstance(instance=instance)).disks] == [
        None
    ]
    driver.attach_volume(lab.call(), r.AttachVolume(instance=instance, volume=StoredVolume(volume="data")))
    driver.detach_volume(lab.call(), r.DetachVolume(instance=instance, volume="data", delete=True))
    assert not [file for file in lab.eyes.files() if "federation-volumes/data" in file]
    proxy.close()
