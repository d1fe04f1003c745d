"""What every operation does on VMware's simulator, looked at with pyVmomi."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from pathlib import Path

import pytest
from pyVmomi import vim

from federation.contract import requests as r
from federation.contract.captures import CaptureTemplate
from federation.contract.consoles import ConsoleKind
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    ImageRejected,
    ImageUnavailable,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
)
from federation.contract.instances import (
    BootImage,
    BootTemplate,
    BootVolume,
    DataDisk,
    Firmware,
    Flavour,
    GuestSetup,
    ImageFormat,
    Interface,
    PowerState,
    Topology,
)
from federation.contract.volumes import NewVolume, StoredVolume

MEBIBYTE = 1 << 20


def test_a_clone_of_a_template_runs_with_what_was_asked_for(lab):
    spec = lab.spec(
        node=lab.nodes[1],
        flavour=Flavour(vcpus=2, memory_bytes=256 * MEBIBYTE),
        data_disks=(DataDisk(size_bytes=8 * MEBIBYTE),),
        interfaces=(Interface(network="VM Network", mac="00:50:56:00:00:07"), Interface(network="DC0_DVPG0")),
        metadata={"Zweck": "Prüfung ✓"},
        guest=GuestSetup(user_data="#cloud-config\n{}\n", ssh_keys=("ssh-ed25519 AAAA me",)),
    )
    made = lab.create(spec)
    assert (made.power_state, made.node, made.vcpus) == (PowerState.RUNNING, lab.nodes[1], 2)
    assert (made.memory_bytes, made.metadata, made.owned) == (256 * MEBIBYTE, {"Zweck": "Prüfung ✓"}, True)
    assert [disk.size_bytes for disk in made.disks] == [16 * MEBIBYTE, 8 * MEBIBYTE]
    assert [one.network for one in made.interfaces] == ["VM Network", "DC0_DVPG0"]
    assert made.interfaces[0].mac == "00:50:56:00:00:07"
    native = lab.eyes.machine(made.id)
    notes = {one.key: one.value for one in native.config.extraConfig}
    assert base64.b64decode(notes["guestinfo.userdata"]) == b"#cloud-config\n{}\n"
    assert json.loads(base64.b64decode(notes["guestinfo.metadata"]))["public-keys-data"] == "ssh-ed25519 AAAA me"
    assert (native.name, native.runtime.host.name) == (spec.name, lab.nodes[1])


def test_a_destroyed_instance_leaves_no_file(lab):
    before = lab.eyes.files()
    made = lab.create(lab.spec(data_disks=(DataDisk(size_bytes=MEBIBYTE),)))
    assert lab.eyes.files() > before
    lab.destroy(made.id)
    assert not lab.exists(made.id)
    assert lab.eyes.files() == before
    lab.destroy(made.id)


@pytest.mark.parametrize("linked", [False, True])
def test_a_template_is_cloned_with_a_larger_disk_unless_it_is_linked(lab, linked):
    boot = BootTemplate(template="small linux", linked=linked, size_bytes=None if linked else 32 * MEBIBYTE)
    made = lab.create(lab.spec(boot), start=False)
    assert made.disks[0].size_bytes == (16 if linked else 32) * MEBIBYTE


def test_an_image_is_sent_to_the_datastore_and_started(lab):
    content = b"bootable" * (MEBIBYTE // 8)
    (lab.images / "disk.raw").write_bytes(content)
    boot = BootImage(
        url=f"file://{lab.images}/disk.raw",
        checksum=f"sha256:{hashlib.sha256(content).hexdigest()}",
        format=ImageFormat.RAW,
        size_bytes=2 * MEBIBYTE,
    )
    call = lab.call()
    request = r.Create(instance=str(uuid.uuid4()), spec=lab.spec(boot))
    made = lab.driver.create(call, request)
    assert made.power_state is PowerState.RUNNING
    assert made.disks[0].size_bytes == 2 * MEBIBYTE
    flat = next(path for path in lab.eyes.files() if path.endswith("/root-flat.vmdk") and request.spec.name in path)
    folder = lab.eyes.datastore().summary.url
    stored = Path(folder, flat.partition("] ")[2]).read_bytes()
    assert stored[: len(content)] == content
    assert len(stored) == 2 * MEBIBYTE
    assert any(percent is not None and 40 < percent <= 80 for percent, _ in call.progressed)
    lab.destroy(made.id)
    assert not [path for path in lab.eyes.files() if request.spec.name in path]


def test_an_image_with_another_checksum_leaves_nothing(lab):
    (lab.images / "disk.raw").write_bytes(bytes(MEBIBYTE))
    before, machines = lab.eyes.files(), len(lab.eyes.machines())
    boot = BootImage(url=f"file://{lab.images}/disk.raw", checksum="sha256:" + "0" * 64, format=ImageFormat.RAW)
    with pytest.raises(ImageRejected, match="sha256"):
        lab.create(lab.spec(boot))
    assert (lab.eyes.files(), len(lab.eyes.machines())) == (before, machines)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"node": "nowhere"}, NotFound, "nowhere"),
        ({"boot": BootTemplate(template="none such")}, ImageUnavailable, "none such"),
        ({"boot": BootTemplate(template="small linux", size_bytes=MEBIBYTE)}, ImageRejected, "16777216"),
        ({"interfaces": (Interface(network="none such"),)}, InvalidRequest, "none such"),
        ({"interfaces": (Interface(network="VM Network", vlan=7),)}, NotSupported, "vlan"),
        ({"flavour": Flavour(vcpus=1, memory_bytes=1 << 40)}, InsufficientResources, "memory"),
        ({"data_disks": (DataDisk(size_bytes=1 << 49),)}, InsufficientResources, "free"),
        ({"extensions": {"vmware": {"colour": "blue"}}}, InvalidRequest, "colour"),
        ({"extensions": {"vmware": {"datastore": "none such"}}}, InvalidRequest, "none such"),
        ({"extensions": {"vmware": {"folder": "none/such"}}}, InvalidRequest, "none/such"),
        ({"boot": BootVolume(volume="none-such")}, ImageUnavailable, "none-such"),
        ({"boot": BootVolume(volume="../escape")}, InvalidRequest, "escape"),
        (
            {"flavour": Flavour(vcpus=2, memory_bytes=1 << 27, topology=Topology(threads=2))},
            NotSupported,
            "threads",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_touched(lab, changes, error, words):
    files, machines = lab.eyes.files(), len(lab.eyes.machines())
    call = lab.call()
    with pytest.raises(error, match=words):
        lab.driver.create(call, r.Create(instance=str(uuid.uuid4()), spec=lab.spec(**changes)))
    assert (lab.eyes.files(), len(lab.eyes.machines()), call.guards) == (files, machines, 0)


def test_a_name_or_an_id_that_is_taken_is_refused(lab):
    made = lab.create()
    with pytest.raises(AlreadyExists, match=made.name):
        lab.create(lab.spec(name=made.name))
    with pytest.raises(AlreadyExists, match=made.id):
        lab.driver.create(lab.call(), r.Create(instance=made.id, spec=lab.spec()))


def test_uefi_and_sockets_reach_the_machine(lab):
    shape = Flavour(vcpus=2, memory_bytes=128 * MEBIBYTE, firmware=Firmware.UEFI, topology=Topology(sockets=1, cores=2))
    native = lab.eyes.machine(lab.create(lab.spec(flavour=shape), start=False).id)
    assert (native.config.firmware, native.config.hardware.numCoresPerSocket) == ("efi", 2)


def test_power_goes_through_every_state(lab):
    instance, call = lab.create(start=False).id, lab.call
    d = lab.driver
    assert d.power_on(call(), r.PowerOn(instance=instance)).power_state is PowerState.RUNNING
    assert d.suspend(call(), r.Suspend(instance=instance)).power_state is PowerState.SUSPENDED
    with pytest.raises(InvalidState, match="suspended"):
        d.power_off(call(), r.PowerOff(instance=instance, mode=r.PowerOffMode.GRACEFUL))
    assert d.resume(call(), r.Resume(instance=instance)).power_state is PowerState.RUNNING
    graceful = r.PowerOff(instance=instance, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=5)
    assert d.power_off(call(), graceful).power_state is PowerState.STOPPED
    with pytest.raises(InvalidState, match="stopped"):
        d.suspend(call(), r.Suspend(instance=instance))
    quiet = call()
    d.power_off(quiet, r.PowerOff(instance=instance))
    assert quiet.guards == 0


@pytest.mark.parametrize("mode", list(r.RebootMode))
def test_a_reboot_starts_the_machine_once_more_and_once_only(lab, mode):
    instance = lab.create()
    before = lab.eyes.machine(instance.id).summary.runtime.bootTime
    call = lab.call()
    request = r.Reboot(instance=instance.id, mode=mode, timeout_seconds=5)
    assert lab.driver.reboot(call, request).power_state is PowerState.RUNNING
    after = lab.eyes.machine(instance.id).summary.runtime.bootTime
    assert after > before
    again = call.again()
    lab.driver.reboot(again, request)
    assert (lab.eyes.machine(instance.id).summary.runtime.bootTime, again.guards) == (after, 0)


def test_a_new_volume_outlives_its_machine_and_can_be_used_by_one_only(lab):
    first, second = lab.create().id, lab.create(start=False).id
    name = f"volume-{first[:8]}"
    new = NewVolume(volume=name, size_bytes=8 * MEBIBYTE)
    disk = lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=first, volume=new))
    assert (disk.volume, disk.size_bytes) == (name, 8 * MEBIBYTE)
    with pytest.raises(Conflict, match=first):
        lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=second, volume=StoredVolume(volume=name)))
    with pytest.raises(AlreadyExists, match=name):
        lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=second, volume=new))
    grown = r.ExtendVolume(instance=first, volume=name, size_bytes=16 * MEBIBYTE)
    assert lab.driver.extend_volume(lab.call(), grown).size_bytes == 16 * MEBIBYTE
    with pytest.raises(InvalidRequest, match="16777216"):
        lab.driver.extend_volume(lab.call(), r.ExtendVolume(instance=first, volume=name, size_bytes=MEBIBYTE))
    lab.destroy(first)
    assert any(name in path for path in lab.eyes.files())
    lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=second, volume=StoredVolume(volume=name)))
    lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=second, volume=name, delete=True))
    assert not any(name in path for path in lab.eyes.files())
    assert [disk.volume for disk in lab.get(second).disks] == [None]


def test_a_machine_boots_from_a_volume_which_outlives_it(lab):
    helper = lab.create(start=False).id
    name = f"root-{helper[:8]}"
    new = NewVolume(volume=name, size_bytes=8 * MEBIBYTE)
    lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=helper, volume=new))
    lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=helper, volume=name))
    made = lab.create(lab.spec(BootVolume(volume=name)))
    assert [disk.volume for disk in made.disks] == [name]
    lab.destroy(made.id)
    assert any(name in path for path in lab.eyes.files())
    lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=helper, volume=name, delete=True))
    assert not any(name in path for path in lab.eyes.files())


def test_interfaces_come_and_go_on_a_running_machine(lab):
    instance, call = lab.create().id, lab.call()
    wanted = r.AttachInterface(instance=instance, interface=Interface(network="DC0_DVPG0"))
    added = lab.driver.attach_interface(call, wanted)
    assert added.network == "DC0_DVPG0"
    again = call.again()
    assert (lab.driver.attach_interface(again, wanted), again.guards) == (added, 0)
    elsewhere = Interface(network="VM Network", mac=added.mac)
    with pytest.raises(AlreadyExists, match=added.mac):
        lab.driver.attach_interface(lab.call(), r.AttachInterface(instance=instance, interface=elsewhere))
    lab.driver.detach_interface(lab.call(), r.DetachInterface(instance=instance, mac=added.mac))
    assert lab.get(instance).interfaces == ()


def test_snapshots_are_listed_with_parent_and_current_and_brought_back_once(lab):
    instance, first, second = lab.create().id, lab.call(), lab.call()
    name = 'with % / \\ and "quotes"'
    one = lab.driver.create_snapshot(first, r.CreateSnapshot(instance=instance, name=name))
    two = lab.driver.create_snapshot(second, r.CreateSnapshot(instance=instance, name="two", memory=True))
    listed = lab.driver.list_snapshots(lab.call(), r.ListSnapshots(instance=instance)).snapshots
    assert [(s.id, s.name, s.parent, s.current) for s in listed] == [
        (first.operation, name, None, False),
        (second.operation, "two", one.id, True),
    ]
    assert (one.power_state, two.power_state) == (PowerState.STOPPED, PowerState.RUNNING)
    call = lab.call()
    back = r.RevertSnapshot(instance=instance, snapshot=one.id)
    assert lab.driver.revert_snapshot(call, back).power_state is PowerState.STOPPED
    again = call.again()
    lab.driver.revert_snapshot(again, back)
    assert again.guards == 0
    # The simulator's handler panics when the snapshot that is current and has no parent is removed before others.
    lab.driver.delete_snapshot(lab.call(), r.DeleteSnapshot(instance=instance, snapshot=two.id))
    left = lab.driver.list_snapshots(lab.call(), r.ListSnapshots(instance=instance)).snapshots
    assert [s.id for s in left] == [one.id]


def test_a_captured_template_can_be_cloned_also_linked(lab):
    instance, name = (
        lab.create(lab.spec(data_disks=(DataDisk(size_bytes=MEBIBYTE),))).id,
        f"golden-{uuid.uuid4().hex[:8]}",
    )
    wanted = r.CaptureImage(instance=instance, target=CaptureTemplate(template=name))
    with pytest.raises(InvalidState, match="running"):
        lab.driver.capture_image(lab.call(), wanted)
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    call = lab.call()
    captured = lab.driver.capture_image(call, wanted)
    assert (captured.template, captured.virtual_size_bytes) == (name, 16 * MEBIBYTE)
    again = call.again()
    assert (lab.driver.capture_image(again, wanted), again.guards) == (captured, 0)
    with pytest.raises(AlreadyExists, match=name):
        lab.driver.capture_image(lab.call(), wanted)
    made = lab.create(lab.spec(BootTemplate(template=name, linked=True)))
    assert [disk.size_bytes for disk in made.disks] == [16 * MEBIBYTE]
    listed = lab.driver.list_instances(lab.call(), r.ListInstances(foreign=True)).instances
    assert name not in [one.name for one in listed]


def test_a_machine_moves_to_another_node_running_or_stopped(lab):
    instance = lab.create().id
    with pytest.raises(InvalidState, match="running"):
        lab.driver.migrate(lab.call(), r.Migrate(instance=instance, node=lab.nodes[2], mode=r.MigrateMode.COLD))
    moved = lab.driver.migrate(lab.call(), r.Migrate(instance=instance, node=lab.nodes[2]))
    assert (moved.node, moved.power_state) == (lab.nodes[2], PowerState.RUNNING)
    assert lab.eyes.machine(instance).runtime.host.name == lab.nodes[2]
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    cold = r.Migrate(instance=instance, node=lab.nodes[0], mode=r.MigrateMode.COLD)
    assert lab.driver.migrate(lab.call(), cold).node == lab.nodes[0]


def test_a_machine_of_somebody_else_is_shown_and_left_alone_until_it_is_adopted(lab):
    native = lab.eyes.make(f"theirs-{uuid.uuid4().hex[:6]}")
    instance = native.config.instanceUuid
    assert not lab.get(instance).owned
    with pytest.raises(InvalidState, match="foreign"):
        lab.destroy(instance)
    ours = [one.id for one in lab.driver.list_instances(lab.call(), r.ListInstances()).instances]
    everything = [one.id for one in lab.driver.list_instances(lab.call(), r.ListInstances(foreign=True)).instances]
    assert instance not in ours
    assert instance in everything
    request = r.Adopt(instance=instance, name="adopted-machine", node=lab.nodes[0], metadata={"a": "b"})
    seen = lab.driver.adopt(lab.call(), request)
    assert (seen.owned, seen.name, seen.metadata) == (True, "adopted-machine", {"a": "b"})
    quiet = lab.call()
    lab.driver.adopt(quiet, request)
    assert quiet.guards == 0


def test_a_clone_that_somebody_makes_of_ours_is_theirs(lab):
    made = lab.create(start=False)
    notes = lab.eyes.machine(made.id).config.extraConfig
    copy = lab.eyes.make(f"copy-{uuid.uuid4().hex[:6]}")
    copy.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=notes))
    assert not lab.get(copy.config.instanceUuid).owned


def test_a_node_in_maintenance_takes_nothing_new_and_what_runs_goes_on(lab):
    made = lab.create()
    node = lab.nodes[0]
    shown = lab.driver.set_node_maintenance(lab.call(), r.SetNodeMaintenance(node=node, enabled=True))
    assert (shown.maintenance, shown.accepts_instances) == (True, False)
    with pytest.raises(InvalidState, match="maintenance"):
        lab.create()
    assert lab.get(made.id).power_state is PowerState.RUNNING
    quiet = lab.call()
    lab.driver.set_node_maintenance(quiet, r.SetNodeMaintenance(node=node, enabled=True))
    assert quiet.guards == 0
    shown = lab.driver.set_node_maintenance(lab.call(), r.SetNodeMaintenance(node=node, enabled=False))
    assert (shown.maintenance, shown.accepts_instances) == (False, True)


def test_nodes_show_what_they_have_and_what_is_used(lab):
    lab.create(lab.spec(node=lab.nodes[2]))
    nodes = {node.name: node for node in lab.driver.list_nodes(lab.call(), r.ListNodes()).nodes}
    assert list(nodes) == lab.nodes
    shown = nodes[lab.nodes[2]]
    assert shown.memory_bytes_total == lab.eyes.hosts[2].summary.hardware.memorySize
    assert shown.memory_bytes_used >= 128 * MEBIBYTE
    assert shown.reachable


def test_metrics_come_from_vcenters_statistics(lab):
    seen = lab.driver.get_metrics(lab.call(), r.GetMetrics(instance=lab.create().id))
    assert seen.cpu_fraction is not None
    assert 0 <= seen.cpu_fraction <= 1
    assert seen.memory_bytes_used is not None


def test_a_console_is_not_declared_until_the_operator_says_so(lab):
    instance = lab.create().id
    with pytest.raises(NotSupported, match="webmks"):
        lab.driver.get_console(lab.call(), r.GetConsole(instance=instance, kind=ConsoleKind.WEBMKS))
    asked = lab.another_driver(webmks_console=True)
    assert "console_webmks" in asked.description().capabilities.flags
    with pytest.raises(NotSupported, match=r"AcquireTicket|MethodNotFound|NotSupported"):
        asked.get_console(lab.call(), r.GetConsole(instance=instance, kind=ConsoleKind.WEBMKS))
