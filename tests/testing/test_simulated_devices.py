"""Volumes, interfaces and captures of the simulated driver: what they promise beside convergence."""

from __future__ import annotations

import pytest
from testing.scenarios import GIB, INSTANCE, MAC, create, do, image, new_id

from federation.contract import requests as r
from federation.contract.capabilities import Limits
from federation.contract.captures import CaptureTemplate, CaptureUpload
from federation.contract.errors import (
    AlreadyExists,
    Cancelled,
    Conflict,
    ImageRejected,
    ImageUnavailable,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    TimedOut,
)
from federation.contract.instances import BootImage, BootTemplate, BootVolume, ImageFormat, Interface
from federation.contract.volumes import NewVolume, StoredVolume
from federation.testing.calls import RecordedCall, SimulatedCrash

STOP = r.PowerOff(instance=INSTANCE)


def attach(volume="spare", instance=INSTANCE, **more):
    return r.AttachVolume(instance=instance, volume=StoredVolume(volume=volume), **more)


def attach_new(volume="made", instance=INSTANCE, size_bytes=GIB):
    return r.AttachVolume(instance=instance, volume=NewVolume(volume=volume, size_bytes=size_bytes))


def detach(volume="spare", **more):
    return r.DetachVolume(instance=INSTANCE, volume=volume, **more)


def two_instances(driver):
    do(driver, create())
    second = new_id()
    do(driver, create(second, name="two"))
    return second


def test_a_volume_that_another_instance_uses_is_a_conflict_until_it_is_detached(driver, control):
    second = two_instances(driver)
    shown = do(driver, attach())
    assert (shown.volume, shown.pool, shown.size_bytes) == ("spare", "default", GIB)
    with pytest.raises(Conflict, match="used by machine 1111"):
        do(driver, attach(instance=second))
    with pytest.raises(Conflict):
        do(driver, create(new_id(), name="three", boot=BootVolume(volume="spare")))
    with pytest.raises(Conflict):
        do(driver, r.DetachVolume(instance=second, volume="spare", delete=True))
    assert control.world().volume("spare").used_by == INSTANCE
    do(driver, detach())
    do(driver, attach(instance=second))
    assert control.world().volume("spare").used_by == second


def test_a_volume_that_somebody_takes_in_the_meantime_stays_theirs(driver, control):
    second = two_instances(driver)

    class Overtaken(RecordedCall):
        def guard(self):
            super().guard()
            if self.guards == 1:
                do(driver, attach(instance=second))

    with pytest.raises(Conflict, match=f"used by machine {second}"):
        do(driver, attach(), Overtaken())
    assert control.world().volume("spare").used_by == second
    assert control.machine(INSTANCE).volume("default", "spare") is None


def test_a_volume_outlives_its_instance_with_what_the_guest_wrote(driver, control):
    do(driver, create())
    do(driver, attach())
    control.write_guest(INSTANCE, "spare", "precious")
    do(driver, r.Destroy(instance=INSTANCE))
    left = control.world().volume("spare")
    assert (left.content, left.used_by) == ("precious", None)
    assert control.world().machines == ()


def test_an_instance_boots_from_a_volume_that_outlives_it_and_cannot_be_detached(driver, control):
    made = do(driver, create(boot=BootVolume(volume="system")))
    assert (made.disks[0].volume, control.machine(INSTANCE).root.content) == ("system", "installed")
    with pytest.raises(InvalidState, match="boots from volume system"):
        do(driver, detach("system"))
    do(driver, r.Destroy(instance=INSTANCE))
    assert control.world().volume("system").used_by is None


def test_a_new_volume_of_a_name_that_exists_is_refused_and_what_is_there_stays(driver, control):
    second = two_instances(driver)
    do(driver, attach_new())
    for instance in (INSTANCE, second):
        with pytest.raises(AlreadyExists, match="made exists already"):
            do(driver, attach_new(instance=instance))
    assert control.world().volume("made").used_by == INSTANCE


def test_detaching_with_delete_removes_the_volume_also_one_that_is_not_connected(driver, control):
    do(driver, create())
    do(driver, attach_new())
    do(driver, detach("made", delete=True))
    do(driver, detach("spare", delete=True))
    do(driver, detach("spare", delete=True))
    assert {one.name for one in control.world().volumes} == {"system"}


def test_a_cancelled_detachment_gives_the_volume_back_where_it_stood(driver, control):
    do(driver, create())
    do(driver, attach_new())
    do(driver, attach())
    before = control.world()
    with pytest.raises(Cancelled):
        do(driver, detach("made", delete=True), RecordedCall(cancel_at=2))
    assert control.world() == before


def test_a_volume_grows_and_never_shrinks(driver, control):
    do(driver, create())
    with pytest.raises(NotFound, match="not attached"):
        do(driver, r.ExtendVolume(instance=INSTANCE, volume="spare", size_bytes=2 * GIB))
    do(driver, attach())
    with pytest.raises(InvalidRequest, match="cannot become smaller"):
        do(driver, r.ExtendVolume(instance=INSTANCE, volume="spare", size_bytes=GIB // 2))
    assert do(driver, r.ExtendVolume(instance=INSTANCE, volume="spare", size_bytes=2 * GIB)).size_bytes == 2 * GIB
    assert control.world().volume("spare").size_bytes == 2 * GIB


def test_the_storage_and_the_numbers_of_devices_are_limited(open_driver):
    driver = open_driver(pool_bytes=5 * GIB, limits=Limits(max_volumes=1, max_interfaces=1))
    do(driver, create())
    with pytest.raises(InsufficientResources, match="bytes free"):
        do(driver, attach_new(size_bytes=4 * GIB))
    do(driver, attach())
    with pytest.raises(InsufficientResources, match="bytes free"):
        do(driver, r.ExtendVolume(instance=INSTANCE, volume="spare", size_bytes=6 * GIB))
    with pytest.raises(InsufficientResources, match="at most 1"):
        do(driver, attach("system"))
    plug = r.AttachInterface(instance=INSTANCE, interface=Interface(network="lan"))
    do(driver, plug)
    with pytest.raises(InsufficientResources, match="at most 1"):
        do(driver, plug)


def test_a_guest_that_keeps_its_devices_makes_a_detachment_time_out_and_keeps_them(driver):
    made = do(driver, create(extensions={"simulated": {"keeps_devices": True}}, interfaces=(Interface(network="lan"),)))
    do(driver, attach())
    call = RecordedCall()
    with pytest.raises(TimedOut, match="did not let go"):
        do(driver, detach(timeout_seconds=7), call)
    assert call.slept == [7.0]
    with pytest.raises(TimedOut):
        do(driver, r.DetachInterface(instance=INSTANCE, mac=made.interfaces[0].mac))
    do(driver, STOP)
    do(driver, detach())
    assert len(do(driver, r.GetInstance(instance=INSTANCE)).disks) == 1


def test_an_interface_on_another_network_is_refused_and_the_same_one_stays(driver, control):
    do(driver, create())
    plug = r.AttachInterface(instance=INSTANCE, interface=Interface(network="lan", mac=MAC, vlan=7))
    shown = do(driver, plug)
    assert (shown.mac, shown.vlan, shown.addresses) == (MAC, 7, ("10.171.205.239",))
    assert do(driver, plug) == shown
    with pytest.raises(AlreadyExists, match="on network lan already"):
        do(driver, r.AttachInterface(instance=INSTANCE, interface=Interface(network="dmz", mac=MAC)))
    assert len(control.machine(INSTANCE).interfaces) == 1


@pytest.mark.parametrize("change", [r.Suspend(instance=INSTANCE), r.Pause(instance=INSTANCE)])
def test_devices_are_changed_while_an_instance_runs_or_is_stopped_only(change, driver):
    do(driver, create())
    do(driver, change)
    for request in (attach(), r.AttachInterface(instance=INSTANCE, interface=Interface(network="lan"))):
        with pytest.raises(InvalidState, match="expected running or stopped"):
            do(driver, request)


def test_what_is_captured_as_a_template_can_be_booted_and_holds_what_the_guest_wrote(driver, control):
    do(driver, create())
    control.write_guest(INSTANCE, f"{INSTANCE}-root", "configured")
    capture = r.CaptureImage(instance=INSTANCE, target=CaptureTemplate(template="captured"))
    with pytest.raises(InvalidState, match="is running, expected stopped"):
        do(driver, capture)
    do(driver, STOP)
    made = do(driver, capture)
    assert (made.template, made.pool, made.virtual_size_bytes) == ("captured", "default", 2 * GIB)
    second = new_id()
    do(driver, create(second, name="two", boot=BootTemplate(template="captured", size_bytes=4 * GIB)))
    assert (control.machine(second).root.content, control.machine(second).root.size_bytes) == ("configured", 4 * GIB)
    with pytest.raises(AlreadyExists, match="captured exists already"):
        do(driver, capture)


def test_a_template_that_is_still_being_written_cannot_be_booted(driver):
    do(driver, create(start=False))
    capture = r.CaptureImage(instance=INSTANCE, target=CaptureTemplate(template="half"))
    with pytest.raises(SimulatedCrash):
        do(driver, capture, RecordedCall(crash_at=2))
    with pytest.raises(ImageUnavailable):
        do(driver, create(new_id(), name="two", boot=BootTemplate(template="half")))


def upload(folder, name="image.qcow2", **more):
    target = CaptureUpload(url=f"file://{folder}/{name}", format=ImageFormat.QCOW2, **more)
    return r.CaptureImage(instance=INSTANCE, target=target)


@pytest.mark.parametrize("crash_at", [None, 1])
def test_what_is_uploaded_can_be_booted_by_its_url_and_checksum(crash_at, open_driver, control, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    driver = open_driver(upload_directories=(str(folder),))
    do(driver, create(start=False))
    control.write_guest(INSTANCE, f"{INSTANCE}-root", "configured")
    call = RecordedCall(crash_at=crash_at)
    if crash_at:
        with pytest.raises(SimulatedCrash):
            do(driver, upload(folder), call)
    made = do(driver, upload(folder), call.again())
    assert do(driver, upload(folder), call.again()) == made
    assert made.size_bytes == (folder / "image.qcow2").stat().st_size
    boot = BootImage(url=made.url, checksum=made.checksum, format=ImageFormat.QCOW2)
    second = new_id()
    do(driver, create(second, name="two", boot=boot))
    assert control.machine(second).root.content == "configured"
    with pytest.raises(ImageRejected, match="has checksum"):
        do(driver, create(new_id(), name="three", boot=image(made.url)))
    with pytest.raises(AlreadyExists):
        do(driver, upload(folder))
    assert [one.name for one in folder.iterdir()] == ["image.qcow2"]


@pytest.mark.parametrize("name", ["../elsewhere", "%2e%2e/elsewhere"])
def test_nothing_is_uploaded_outside_of_the_allowed_folders(name, open_driver, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    driver = open_driver(upload_directories=(str(folder),))
    do(driver, create(start=False))
    with pytest.raises(InvalidRequest, match="is not allowed"):
        do(driver, upload(folder, name))
    assert not (tmp_path / "elsewhere").exists()
