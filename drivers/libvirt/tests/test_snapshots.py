"""Snapshots of real machines: disks and memory kept, brought back, deleted."""

from __future__ import annotations

import re
import uuid

import pytest

from federation.contract import requests as r
from federation.contract.errors import Cancelled, InsufficientResources, InvalidState, NotFound, NotSupported
from federation.contract.instances import DataDisk, Flavour, ImageFormat, PowerState
from federation.contract.snapshots import Snapshot
from federation.contract.volumes import NewVolume, StoredVolume

MEBIBYTE = 1 << 20


def boot_id(line: str) -> str:
    return re.search(r"boot-id=(\S+)", line)[1]


def uptime(line: str) -> float:
    return float(re.search(r"uptime=(\S+)", line)[1])


def attach(lab, instance: str, volume, **more):
    return lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=instance, volume=volume, **more))


def detach(lab, instance: str, name: str):
    return lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=instance, volume=name))


def with_disk(lab, *, start: bool = True) -> str:
    """An instance from a kernel, which boots faster, with a blank disk of its own."""
    return lab.create(lab.spec(data_disks=(DataDisk(size_bytes=16 * MEBIBYTE),)), start=start).id


def take(lab, instance: str, name: str = "before", **more) -> Snapshot:
    request = r.CreateSnapshot(instance=instance, name=name, **more)
    return lab.driver.create_snapshot(lab.call(), request)


def revert(lab, instance: str, snapshot: str, call=None):
    request = r.RevertSnapshot(instance=instance, snapshot=snapshot)
    return lab.driver.revert_snapshot(call or lab.call(), request)


def delete(lab, instance: str, snapshot: str):
    return lab.driver.delete_snapshot(lab.call(), r.DeleteSnapshot(instance=instance, snapshot=snapshot))


def listed(lab, instance: str) -> list[Snapshot]:
    request = r.ListSnapshots(instance=instance)
    return list(lab.driver.list_snapshots(lab.call(), request).snapshots)


def put(lab, file: str, content: bytes) -> None:
    """Write into the disk of a stopped machine, as its guest would have."""
    lab.write_disk(f"{lab.folders[0]}/volumes/lab/{file}", content)


def got(lab, file: str, length: int) -> bytes:
    return lab.read_disk(f"{lab.folders[0]}/volumes/lab/{file}", length)


@pytest.mark.slow
def test_a_snapshot_with_memory_brings_the_running_guest_back_to_that_moment(lab):
    instance = with_disk(lab)
    first = boot_id(lab.wait_ready(instance))
    then = uptime(lab.wait_for_line(instance, "alive", 2)[-1])
    kept = take(lab, instance, memory=True)
    assert (kept.power_state, kept.owned, kept.current, kept.parent) == (PowerState.RUNNING, True, True, None)
    assert lab.get(instance).power_state is PowerState.RUNNING
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    beats = len(lab.wait_for_line(instance, "alive"))
    assert revert(lab, instance, kept.id).power_state is PowerState.RUNNING
    lines = lab.wait_for_line(instance, "alive", beats + 2)
    assert uptime(lines[beats]) < then + 5
    assert [boot_id(line) for line in lab.wait_for_line(instance, "boot-id")] == [first]


@pytest.mark.slow
def test_a_snapshot_of_a_running_instance_without_memory_brings_its_disks_back_and_stops_it(lab):
    instance = with_disk(lab)
    lab.wait_ready(instance)
    kept = take(lab, instance)
    assert kept.power_state is PowerState.STOPPED
    assert lab.get(instance).power_state is PowerState.RUNNING
    assert revert(lab, instance, kept.id).power_state is PowerState.STOPPED
    lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
    lab.wait_ready(instance, times=2)


def test_disks_volumes_flavour_and_nothing_else_come_back_to_a_stopped_instance(lab):
    instance = with_disk(lab, start=False)
    attach(lab, instance, NewVolume(volume="vol-a", size_bytes=MEBIBYTE))
    files = (f"{instance}-data0.qcow2", "vol-a")
    for file in files:
        put(lab, file, b"before")
    kept = take(lab, instance)
    for file in files:
        put(lab, file, b"after!")
    flavour = Flavour(vcpus=2, memory_bytes=192 * MEBIBYTE)
    lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=flavour))
    back = revert(lab, instance, kept.id)
    assert (back.power_state, back.vcpus) == (PowerState.STOPPED, 1)
    assert [got(lab, file, 6) for file in files] == [b"before", b"before"]
    assert [disk.volume for disk in back.disks] == [None, "vol-a"]


def test_snapshots_form_a_line_of_which_any_can_go_and_the_others_stay(lab):
    instance = with_disk(lab, start=False)
    first, second, third = (take(lab, instance, f"number {n}\x00é") for n in range(3))
    shown = listed(lab, instance)
    assert [s.id for s in shown] == [first.id, second.id, third.id]
    assert [s.name for s in shown] == [f"number {n}\x00é" for n in range(3)]
    assert [(s.parent, s.current) for s in shown] == [(None, False), (first.id, False), (second.id, True)]
    put(lab, f"{instance}-data0.qcow2", b"later")
    delete(lab, instance, second.id)
    assert [(s.id, s.parent) for s in listed(lab, instance)] == [(first.id, None), (third.id, first.id)]
    delete(lab, instance, second.id)
    revert(lab, instance, first.id)
    assert got(lab, f"{instance}-data0.qcow2", 5) == bytes(5)
    assert [s.current for s in listed(lab, instance)] == [True, False]
    assert lab.snapshots_in(f"{lab.folders[0]}/volumes/lab/{instance}-data0.qcow2") == {first.id, third.id}


def test_a_repeated_create_finds_its_own_snapshot(lab):
    instance = with_disk(lab, start=False)
    call = lab.call()
    request = r.CreateSnapshot(instance=instance, name="once")
    made = lab.driver.create_snapshot(call, request)
    again = call.again()
    assert (lab.another_driver().create_snapshot(again, request), again.guards) == (made, 0)
    assert made.id == call.operation


def test_foreign_snapshots_are_listed_and_left_alone(lab):
    instance = with_disk(lab, start=False)
    name = str(uuid.uuid4())
    xml = f"<domainsnapshot><name>{name}</name><description>by hand</description></domainsnapshot>"
    lab.native().lookupByUUIDString(instance).snapshotCreateXML(xml, 0)
    shown = listed(lab, instance)
    assert [(s.id, s.name, s.owned) for s in shown] == [(name, name, False)]
    before = lab.inventory()
    for act in (revert, delete):
        with pytest.raises(InvalidState, match="foreign"):
            act(lab, instance, name)
    assert lab.inventory() == before
    assert listed(lab, instance) == shown


def test_a_volume_that_a_snapshot_holds_stays_attached_until_the_snapshot_is_deleted(lab):
    instance = with_disk(lab, start=False)
    attach(lab, instance, NewVolume(volume="vol-a", size_bytes=MEBIBYTE))
    kept = take(lab, instance)
    with pytest.raises(InvalidState, match=f"delete them first: {kept.id}"):
        detach(lab, instance, "vol-a")
    attach(lab, instance, NewVolume(volume="vol-b", size_bytes=MEBIBYTE))
    with pytest.raises(InvalidState, match="first: detach lab/vol-b"):
        revert(lab, instance, kept.id)
    delete(lab, instance, kept.id)
    detach(lab, instance, "vol-a")
    assert lab.snapshots_in(f"{lab.folders[0]}/volumes/lab/vol-a") == set()


def test_a_raw_volume_is_in_the_way_of_a_snapshot_unless_it_is_read_only(lab):
    instance = with_disk(lab, start=False)
    lab.make_volume("raw-a")
    raw = StoredVolume(volume="raw-a", format=ImageFormat.RAW)
    attach(lab, instance, raw)
    with pytest.raises(InvalidState, match=r"raw-a.*only qcow2"):
        take(lab, instance)
    detach(lab, instance, "raw-a")
    attach(lab, instance, raw, read_only=True)
    assert take(lab, instance).owned


@pytest.mark.parametrize("start", [False, True])
def test_destroying_an_instance_with_snapshots_leaves_nothing_not_even_in_its_volumes(lab, start):
    empty = lab.inventory()
    instance = with_disk(lab, start=start)
    attach(lab, instance, NewVolume(volume="vol-a", size_bytes=MEBIBYTE))
    take(lab, instance, memory=start)
    take(lab, instance, "second")
    lab.destroy(instance)
    assert lab.snapshots_in(f"{lab.folders[0]}/volumes/lab/vol-a") == set()
    assert "vol-a" in lab.in_pool()
    lab.native().storagePoolLookupByName("lab").storageVolLookupByName("vol-a").delete(0)
    assert lab.inventory() == empty


def test_what_cannot_be_kept_or_brought_back_is_refused(lab):
    bare = lab.create(start=False).id
    with pytest.raises(InvalidState, match="no disk"):
        take(lab, bare)
    with pytest.raises(NotSupported, match="quiesced"):
        take(lab, bare, quiesce=True)
    instance = with_disk(lab)
    with pytest.raises(NotFound, match="has no snapshot"):
        revert(lab, instance, str(uuid.uuid4()))
    lab.driver.suspend(lab.call(), r.Suspend(instance=instance))
    with pytest.raises(InvalidState, match="suspended"):
        take(lab, instance)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["suspend", "pause", "running"])
def test_a_revert_ends_in_the_snapshots_state_from_wherever_it_starts(lab, state):
    instance = with_disk(lab, start=False)
    stopped = take(lab, instance, "stopped")
    lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
    running = take(lab, instance, "running", memory=True)
    for kept, expected in ((stopped, PowerState.STOPPED), (running, PowerState.RUNNING)):
        if lab.get(instance).power_state is PowerState.STOPPED:
            lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
        if state != "running":
            getattr(lab.driver, state)(lab.call(), getattr(r, state.capitalize())(instance=instance))
        assert revert(lab, instance, kept.id).power_state is expected
        assert not lab.native().lookupByUUIDString(instance).hasManagedSaveImage()


@pytest.mark.slow
def test_snapshots_are_deleted_under_a_running_guest_and_a_grown_volume_is_covered(lab):
    instance = with_disk(lab)
    lab.wait_ready(instance)
    attach(lab, instance, NewVolume(volume="vol-a", size_bytes=MEBIBYTE))
    first = take(lab, instance, memory=True)
    request = r.ExtendVolume(instance=instance, volume="vol-a", size_bytes=2 * MEBIBYTE)
    lab.driver.extend_volume(lab.call(), request)
    second = take(lab, instance)
    delete(lab, instance, first.id)
    assert [s.id for s in listed(lab, instance)] == [second.id]
    assert revert(lab, instance, second.id).disks[-1].size_bytes == 2 * MEBIBYTE


def test_a_cancelled_snapshot_is_not_there(lab):
    instance = with_disk(lab)
    with pytest.raises(Cancelled):
        lab.driver.create_snapshot(lab.call(cancel_at=1), r.CreateSnapshot(instance=instance, name="x"))
    assert listed(lab, instance) == []


def test_a_revert_cancelled_once_it_has_begun_goes_on_to_the_end(lab):
    instance = with_disk(lab)
    kept = take(lab, instance, memory=True)
    call = lab.call()
    revert(lab, instance, kept.id, call)
    with pytest.raises(Cancelled):
        revert(lab, instance, kept.id, lab.call(cancel_at=1))
    for n in range(2, call.guards + 1):
        assert revert(lab, instance, kept.id, lab.call(cancel_at=n)).power_state is PowerState.RUNNING


def test_no_more_snapshots_than_the_limit_are_kept(lab):
    instance = with_disk(lab, start=False)
    limit = lab.driver.description().capabilities.limits.max_snapshots
    for _ in range(limit):
        take(lab, instance)
    with pytest.raises(InsufficientResources, match=f"at most {limit}"):
        take(lab, instance)
    assert len(listed(lab, instance)) == limit


@pytest.mark.parametrize("memory", [False, True])
def test_a_repeated_revert_leaves_the_guest_running_on(lab, memory):
    instance = with_disk(lab)
    kept = take(lab, instance, memory=memory)
    call = lab.call()
    done = revert(lab, instance, kept.id, call)
    again = call.again()
    assert revert(lab, instance, kept.id, again) == done
    assert again.guards == 0
    another = lab.call()
    revert(lab, instance, kept.id, another)
    assert another.guards > 0
