"""An instance's life on real QEMU with a real Linux guest."""

from __future__ import annotations

import hashlib
import re
import uuid

import pytest

from federation.contract import requests as r
from federation.contract.errors import InvalidState, NotFound, TimedOut
from federation.contract.instances import DataDisk, Flavour, GuestSetup, Interface, PowerState, Topology
from federation.contract.results import Destroyed

MEBIBYTE = 1 << 20
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFederation someone@example.org"
USER_DATA = "#cloud-config\nruncmd: [echo hello]\n"


def boot_id(line: str) -> str:
    return re.search(r"boot-id=(\S+)", line)[1]


def uptime(line: str) -> float:
    return float(re.search(r"uptime=(\S+)", line)[1])


@pytest.mark.slow
def test_a_guest_boots_from_an_image_and_finds_its_disks_and_its_cloud_init_medium(lab):
    spec = lab.spec(
        lab.image(size_bytes=100 * MEBIBYTE),
        data_disks=(DataDisk(size_bytes=8 * MEBIBYTE), DataDisk(size_bytes=16 * MEBIBYTE)),
        guest=GuestSetup(user_data=USER_DATA, ssh_keys=(KEY,)),
        metadata={"purpose": "testing\x00\u2028"},
    )
    instance = lab.create(spec)
    assert (instance.power_state, instance.node, instance.owned) == (PowerState.RUNNING, lab.nodes[0], True)
    assert [disk.size_bytes for disk in instance.disks] == [100 * MEBIBYTE, 8 * MEBIBYTE, 16 * MEBIBYTE]
    assert instance.metadata == spec.metadata
    lab.wait_ready(instance.id)
    said = lab.console(instance.id)
    assert f"disk vda {100 * MEBIBYTE}" in said
    assert f"disk vdb {8 * MEBIBYTE}" in said
    assert f"disk vdc {16 * MEBIBYTE}" in said
    assert f"nocloud instance-id={instance.id} local-hostname={spec.name}" in said
    assert f"user-data-sha256={hashlib.sha256(USER_DATA.encode()).hexdigest()}" in said
    assert KEY in said


@pytest.mark.slow
def test_a_guest_boots_from_a_kernel_with_a_network_card_and_shuts_down_when_asked(lab):
    native = lab.native()
    network = native.networkDefineXML(f"<network><name>wire</name><bridge name='fl{uuid.uuid4().hex[:10]}'/></network>")
    network.create()
    try:
        instance = lab.create(lab.spec(interfaces=(Interface(network="wire"),)))
        mac = instance.interfaces[0].mac
        assert mac.startswith("52:54:00:")
        lab.wait_ready(instance.id)
        assert f"interface eth0 {mac}" in lab.console(instance.id)
        request = r.PowerOff(instance=instance.id, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=60)
        assert lab.driver.power_off(lab.call(), request).power_state is PowerState.STOPPED
        assert "powering off" in lab.console(instance.id)
        lab.destroy(instance.id)
    finally:
        network.destroy()
        network.undefine()


@pytest.mark.slow
def test_a_paused_guest_stands_still_and_a_suspended_one_goes_on_where_it_was(lab):
    driver, instance = lab.driver, lab.create().id
    first = boot_id(lab.wait_ready(instance))
    assert driver.pause(lab.call(), r.Pause(instance=instance)).power_state is PowerState.PAUSED
    silent = lab.console(instance)
    assert driver.pause(lab.call(), r.Pause(instance=instance)).power_state is PowerState.PAUSED
    assert lab.console(instance) == silent
    assert driver.unpause(lab.call(), r.Unpause(instance=instance)).power_state is PowerState.RUNNING
    beats = len(lab.wait_for_line(instance, "alive"))
    assert driver.suspend(lab.call(), r.Suspend(instance=instance)).power_state is PowerState.SUSPENDED
    with pytest.raises(InvalidState, match=r"suspended.*paused"):
        driver.unpause(lab.call(), r.Unpause(instance=instance))
    assert driver.resume(lab.call(), r.Resume(instance=instance)).power_state is PowerState.RUNNING
    lines = lab.wait_for_line(instance, "alive", beats + 3)
    assert uptime(lines[-1]) > uptime(lines[beats - 1])
    assert [boot_id(line) for line in lab.wait_for_line(instance, "boot-id")] == [first]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(r.RebootMode))
def test_a_reboot_starts_the_guest_again_exactly_once(lab, mode):
    instance = lab.create().id
    lab.wait_ready(instance)
    call = lab.call()
    request = r.Reboot(instance=instance, mode=mode, timeout_seconds=60)
    assert lab.driver.reboot(call, request).power_state is PowerState.RUNNING
    lab.wait_ready(instance, times=2)
    assert ("powering off" in lab.console(instance)) == (mode is r.RebootMode.SOFT)
    again = call.again()
    assert lab.another_driver().reboot(again, request).power_state is PowerState.RUNNING
    assert again.guards == 0
    beats = len(lab.wait_for_line(instance, "alive"))
    lab.wait_for_line(instance, "alive", beats + 2)
    assert len(lab.wait_for_line(instance, "boot-id")) == 2


@pytest.mark.slow
def test_resize_gives_the_guest_other_processors_and_memory(lab):
    instance = lab.create(lab.spec(), start=False).id
    flavour = Flavour(vcpus=2, memory_bytes=256 * MEBIBYTE, topology=Topology(sockets=1, cores=2))
    resized = lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=flavour))
    assert (resized.vcpus, resized.memory_bytes) == (2, 256 * MEBIBYTE)
    repeated = lab.call()
    lab.driver.resize(repeated, r.Resize(instance=instance, flavour=flavour))
    assert repeated.guards == 0
    lab.driver.power_on(lab.call(), r.PowerOn(instance=instance))
    said = lab.wait_ready(instance)
    assert "cpus=2" in said
    assert int(re.search(r"memory-kib=(\d+)", said)[1]) > 160 * 1024
    with pytest.raises(InvalidState, match=r"running.*stopped"):
        lab.driver.resize(
            lab.call(), r.Resize(instance=instance, flavour=Flavour(vcpus=1, memory_bytes=128 * MEBIBYTE))
        )


def test_every_operation_refuses_a_wrong_state_and_names_both(lab):
    driver, instance = lab.driver, lab.create(start=False).id
    for operation, request in (
        (driver.pause, r.Pause(instance=instance)),
        (driver.unpause, r.Unpause(instance=instance)),
        (driver.suspend, r.Suspend(instance=instance)),
        (driver.resume, r.Resume(instance=instance)),
        (driver.reboot, r.Reboot(instance=instance)),
    ):
        call = lab.call()
        with pytest.raises(InvalidState, match=r"is stopped, .* needs it (running|paused|suspended)"):
            operation(call, request)
        assert call.guards == 0


def test_a_target_that_is_reached_already_is_left_alone(lab):
    driver, instance = lab.driver, lab.create(start=False).id
    steps = (
        (driver.power_off, r.PowerOff(instance=instance)),
        (driver.power_on, r.PowerOn(instance=instance)),
        (driver.pause, r.Pause(instance=instance)),
        (driver.unpause, r.Unpause(instance=instance)),
        (driver.suspend, r.Suspend(instance=instance)),
        (driver.resume, r.Resume(instance=instance)),
    )
    for operation, request in steps:
        first = operation(lab.call(), request)
        repeated = lab.call()
        assert operation(repeated, request) == first
        assert repeated.guards == 0


def test_power_off_from_a_suspended_instance_forgets_its_memory(lab):
    driver, instance = lab.driver, lab.create().id
    driver.suspend(lab.call(), r.Suspend(instance=instance))
    assert driver.power_off(lab.call(), r.PowerOff(instance=instance)).power_state is PowerState.STOPPED
    assert not lab.native().lookupByUUIDString(instance).hasManagedSaveImage()


def test_a_guest_that_does_not_listen_lets_a_graceful_power_off_time_out_and_runs_on(lab):
    instance = lab.create().id  # its kernel has only begun to boot
    request = r.PowerOff(instance=instance, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=0.5)
    with pytest.raises(TimedOut, match=r"0\.5 s"):
        lab.driver.power_off(lab.call(), request)
    assert lab.get(instance).power_state is PowerState.RUNNING


def test_an_instance_that_is_not_there_is_not_found_except_by_destroy(lab):
    nobody = "00000000-0000-4000-8000-000000000000"
    for name, request in (
        ("get_instance", r.GetInstance(instance=nobody)),
        ("get_console_output", r.GetConsoleOutput(instance=nobody)),
        ("power_on", r.PowerOn(instance=nobody)),
        ("power_off", r.PowerOff(instance=nobody)),
        ("reboot", r.Reboot(instance=nobody)),
        ("resize", r.Resize(instance=nobody, flavour=Flavour(vcpus=1, memory_bytes=128 * MEBIBYTE))),
    ):
        with pytest.raises(NotFound, match=nobody):
            getattr(lab.driver, name)(lab.call(), request)
    assert lab.driver.destroy(lab.call(), r.Destroy(instance=nobody)) == Destroyed()


def test_destroy_removes_disks_console_logs_saved_memory_and_nothing_else(lab):
    neighbour = lab.create(start=False).id
    before = lab.inventory()
    instance = lab.create(lab.spec(data_disks=(DataDisk(size_bytes=MEBIBYTE),), guest=GuestSetup())).id
    lab.driver.suspend(lab.call(), r.Suspend(instance=instance))
    rotated = lab.folders[0] / "console" / "lab" / f"{instance}.log.0"
    rotated.write_text("what virtlogd has rotated away")
    lab.destroy(instance)
    assert lab.inventory() == before
    assert lab.exists(neighbour)


def test_console_output_is_cut_at_the_front_and_reaches_into_the_rotated_log(lab):
    instance = lab.create(start=False).id
    log = lab.folders[0] / "console" / "lab" / f"{instance}.log"
    log.write_bytes(b"new \xff")
    log.with_suffix(".log.0").write_bytes(b"0123456789 old ")
    lab.native().storagePoolLookupByName("lab-console").refresh(0)
    read = lab.driver.get_console_output
    whole = read(lab.call(), r.GetConsoleOutput(instance=instance, max_bytes=1000))
    assert (whole.text, whole.truncated) == ("0123456789 old new \ufffd", False)
    part = read(lab.call(), r.GetConsoleOutput(instance=instance, max_bytes=9))
    assert (part.text, part.truncated) == ("old new \ufffd"[-9:], True)
    short = read(lab.call(), r.GetConsoleOutput(instance=instance, max_bytes=3))
    assert (short.text, short.truncated) == ("w \ufffd", True)
