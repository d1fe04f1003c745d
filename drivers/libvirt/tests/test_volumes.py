"""Volumes on real QEMU: plugged into a running Linux guest, grown under it, taken away again."""

from __future__ import annotations

import uuid

import pytest

from federation.contract import requests as r
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    TimedOut,
)
from federation.contract.instances import DataDisk, ImageFormat
from federation.contract.volumes import NewVolume, StoredVolume
from federation_libvirt import connection

MEBIBYTE = 1 << 20
SIZE = 48 * MEBIBYTE


def new(name: str = "vol-a", size: int = SIZE) -> NewVolume:
    return NewVolume(volume=name, size_bytes=size)


def attach(lab, instance: str, volume, **more):
    return lab.driver.attach_volume(lab.call(), r.AttachVolume(instance=instance, volume=volume, **more))


def detach(lab, instance: str, name: str = "vol-a", **more):
    return lab.driver.detach_volume(lab.call(), r.DetachVolume(instance=instance, volume=name, **more))


def extend(lab, instance: str, size: int, name: str = "vol-a"):
    return lab.driver.extend_volume(lab.call(), r.ExtendVolume(instance=instance, volume=name, size_bytes=size))


def xml_of(lab, instance: str, *, inactive: bool = False) -> str:
    flags = connection.XML_INACTIVE if inactive else 0
    return lab.native().lookupByUUIDString(instance).XMLDesc(flags)


@pytest.mark.slow
def test_a_running_guest_gets_a_new_volume_that_grows_under_it_and_lets_go_of_it(lab):
    instance = lab.create().id
    lab.wait_ready(instance)
    disk = attach(lab, instance, new())
    assert (disk.volume, disk.pool, disk.size_bytes) == ("vol-a", "lab", SIZE)
    lab.wait_for_line(instance, f"block vda {SIZE}")
    assert lab.get(instance).disks == (disk,)
    assert extend(lab, instance, 2 * SIZE).size_bytes == 2 * SIZE
    lab.wait_for_line(instance, f"block vda {2 * SIZE}")
    detach(lab, instance)
    lab.wait_for_line(instance, "block vda gone")
    assert lab.get(instance).disks == ()
    assert "vol-a" in lab.in_pool()
    assert attach(lab, instance, StoredVolume(volume="vol-a")).size_bytes == 2 * SIZE
    detach(lab, instance, delete=True)
    assert "vol-a" not in lab.in_pool()


@pytest.mark.slow
def test_a_volume_attached_to_a_stopped_instance_is_there_when_it_boots(lab):
    instance = lab.create(start=False).id
    attach(lab, instance, new())
    assert extend(lab, instance, 2 * SIZE).size_bytes == 2 * SIZE
    lab.make_volume("raw-b")
    attach(lab, instance, StoredVolume(volume="raw-b", format=ImageFormat.RAW), read_only=True)
    assert [disk.volume for disk in lab.get(instance).disks] == ["vol-a", "raw-b"]
    lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
    lab.wait_ready(instance)
    assert f"disk vda {2 * SIZE}" in lab.console(instance)
    assert f"disk vdb {SIZE}" in lab.console(instance)
    xml = xml_of(lab, instance)
    assert "type='raw'" in xml
    assert "<readonly/>" in xml


def test_a_repeated_attach_changes_nothing_and_another_mode_is_refused(lab):
    instance = lab.create(start=False).id
    attach(lab, instance, new())
    again = lab.call()
    request = r.AttachVolume(instance=instance, volume=StoredVolume(volume="vol-a"))
    assert lab.driver.attach_volume(again, request).volume == "vol-a"
    assert again.guards == 0
    with pytest.raises(InvalidState, match="attached already"):
        attach(lab, instance, StoredVolume(volume="vol-a"), read_only=True)
    with pytest.raises(InvalidState, match="attached already"):
        attach(lab, instance, StoredVolume(volume="vol-a", format=ImageFormat.RAW))


def test_a_volume_that_another_machine_uses_is_a_conflict_running_or_stopped(lab):
    holder, other = lab.create(start=False).id, lab.create(start=False).id
    attach(lab, holder, new())
    for _ in range(2):
        with pytest.raises(Conflict, match="is used by"):
            attach(lab, other, StoredVolume(volume="vol-a"))
        lab.driver.power_on(lab.call(), r.PowerOn(instance=holder))
    detach(lab, other)
    assert "vol-a" in lab.in_pool()


def test_two_attaches_of_one_volume_at_the_same_moment_do_not_both_succeed(lab):
    lab.make_volume("vol-a", "qcow2")
    first, second = lab.create(start=False).id, lab.create(start=False).id
    before = xml_of(lab, first)
    call = lab.meddling(1, lambda: attach(lab, second, StoredVolume(volume="vol-a")))
    with pytest.raises(Conflict, match="is used by"):
        lab.driver.attach_volume(call, r.AttachVolume(instance=first, volume=StoredVolume(volume="vol-a")))
    assert xml_of(lab, first) == before
    assert [disk.volume for disk in lab.get(second).disks] == ["vol-a"]


def test_a_new_volume_whose_name_is_taken_already_exists_and_is_left_as_it_is(lab):
    lab.make_volume("vol-a")
    instance = lab.create(start=False).id
    before = lab.inventory()
    with pytest.raises(AlreadyExists, match="vol-a"):
        attach(lab, instance, new())
    for last_moment in (2, 3):
        call = lab.meddling(last_moment, lambda: lab.make_volume("vol-b"))
        with pytest.raises(AlreadyExists, match="vol-b"):
            lab.driver.attach_volume(call, r.AttachVolume(instance=instance, volume=new("vol-b")))
        assert "vol-b" in lab.in_pool()
        lab.native().storagePoolLookupByName("lab").storageVolLookupByName("vol-b").delete(0)
    assert lab.inventory() == before


def test_volumes_lie_in_pools_of_the_settings_and_nowhere_else(lab):
    instance = lab.create(start=False).id
    with pytest.raises(InvalidRequest, match=r"allowed: lab, lab-extra"):
        attach(lab, instance, StoredVolume(volume="vol-a", pool="default"))
    with pytest.raises(NotFound, match="no storage pool lab-extra"):
        attach(lab, instance, StoredVolume(volume="vol-a", pool="lab-extra"))
    pool = lab.extra_pool()
    disk = attach(lab, instance, NewVolume(volume="vol-a", size_bytes=SIZE, pool=pool))
    assert (disk.pool, lab.get(instance).disks[0].pool) == (pool, pool)
    detach(lab, instance, pool=pool, delete=True)
    assert lab.in_pool(pool) == set()


def test_a_file_that_somebody_put_into_the_pool_by_hand_is_found(lab):
    instance = lab.create(start=False).id
    (lab.folders[0] / "volumes" / "lab" / "by-hand").write_bytes(bytes(MEBIBYTE))
    disk = attach(lab, instance, StoredVolume(volume="by-hand", format=ImageFormat.RAW))
    assert disk.size_bytes == MEBIBYTE


@pytest.mark.parametrize(
    "name", ["cached-x", "template-x", "maintenance-lab", f"{uuid.UUID(int=7)}-root.qcow2", f"{uuid.UUID(int=7)}.x"]
)
def test_the_drivers_own_files_are_no_volumes(lab, name):
    instance = lab.create(start=False).id
    for act in (lambda: attach(lab, instance, StoredVolume(volume=name)), lambda: detach(lab, instance, name)):
        with pytest.raises(InvalidRequest, match="reserved"):
            act()


def test_what_cannot_be_attached_or_grown_is_refused_and_leaves_no_trace(lab):
    instance = lab.create(start=False).id
    before = lab.inventory()
    with pytest.raises(NotFound, match="nowhere"):
        attach(lab, instance, StoredVolume(volume="nowhere"))
    with pytest.raises(NotSupported, match="vmdk"):
        attach(lab, instance, StoredVolume(volume="x", format=ImageFormat.VMDK))
    with pytest.raises(InsufficientResources, match="storage pool"):
        attach(lab, instance, new(size=1 << 50))
    with pytest.raises(NotFound, match="not attached"):
        extend(lab, instance, SIZE)
    assert lab.inventory() == before
    attach(lab, instance, new())
    with pytest.raises(InvalidRequest, match="only grow"):
        extend(lab, instance, MEBIBYTE)
    repeated = lab.call()
    request = r.ExtendVolume(instance=instance, volume="vol-a", size_bytes=SIZE)
    assert lab.driver.extend_volume(repeated, request).size_bytes == SIZE
    assert repeated.guards == 0


@pytest.mark.parametrize("state", ["suspend"])
def test_a_suspended_instance_keeps_its_devices(lab, state):
    instance = lab.create().id
    getattr(lab.driver, state)(lab.call(), r.Suspend(instance=instance))
    with pytest.raises(InvalidState, match="suspended"):
        attach(lab, instance, new())
    assert "vol-a" not in lab.in_pool()


def test_no_more_volumes_than_the_limit_can_be_attached(lab):
    instance = lab.create(start=False).id
    limit = lab.driver.description().capabilities.limits.max_volumes
    for number in range(limit):
        attach(lab, instance, new(f"vol-{number}", MEBIBYTE))
    with pytest.raises(InsufficientResources, match=f"at most {limit}"):
        attach(lab, instance, new("vol-more", MEBIBYTE))
    assert "vol-more" not in lab.in_pool()


@pytest.mark.slow
def test_a_running_guest_takes_as_many_volumes_as_the_limit_says(lab):
    instance = lab.create(lab.spec(data_disks=(DataDisk(size_bytes=MEBIBYTE),) * 16)).id
    lab.wait_ready(instance)
    limit = lab.driver.description().capabilities.limits.max_volumes
    for number in range(limit):
        attach(lab, instance, new(f"vol-{number}", MEBIBYTE))
    lab.wait_for_line(instance, "block vdab ")
    assert len(lab.get(instance).disks) == 16 + limit


@pytest.mark.slow
def test_a_guest_that_does_not_let_go_times_out_and_keeps_its_volume(lab):
    instance = lab.create().id
    lab.wait_ready(instance)
    attach(lab, instance, new())
    lab.driver.pause(lab.call(), r.Pause(instance=instance))
    with pytest.raises(TimedOut, match=r"did not let go.*within 2 s"):
        detach(lab, instance, delete=True, timeout_seconds=2)
    assert "vol-a" in lab.in_pool()
    assert "vol-a" in xml_of(lab, instance, inactive=True)
    lab.driver.unpause(lab.call(), r.Unpause(instance=instance))
    detach(lab, instance, delete=True)
    assert "vol-a" not in lab.in_pool()


def test_a_destroyed_instance_leaves_its_volumes_behind(lab):
    instance = lab.create(start=False).id
    attach(lab, instance, new())
    lab.destroy(instance)
    assert "vol-a" in lab.in_pool()
    other = lab.create(start=False).id
    assert attach(lab, other, StoredVolume(volume="vol-a")).size_bytes == SIZE
