"""Metrics, interrupts and passwords of a real guest."""

from __future__ import annotations

import base64
import json
import subprocess

import libvirt
import libvirt_qemu
import pytest

from federation.contract import requests as r
from federation.contract.errors import GuestRefused, InvalidState

MEBIBYTE = 1 << 20


def metrics(lab, instance: str):
    return lab.driver.get_metrics(lab.call(), r.GetMetrics(instance=instance))


@pytest.mark.slow
def test_metrics_grow_with_what_the_guest_does_and_a_stopped_instance_has_none(lab):
    instance = lab.create(lab.spec(lab.image())).id
    early = metrics(lab, instance)
    lab.wait_ready(instance)
    late = metrics(lab, instance)
    assert late.at > early.at
    assert late.cpu_seconds > early.cpu_seconds + 0.5
    assert 32 * MEBIBYTE < late.memory_bytes_used < 2048 * MEBIBYTE
    (disk,) = late.disks
    # The boot loader has read the kernel and its RAM disk from it.
    assert disk.name == "vda"
    assert disk.read_bytes > 8 * MEBIBYTE
    assert disk.read_requests > 10
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    off = metrics(lab, instance)
    assert (off.cpu_seconds, off.memory_bytes_used, off.disks) == (None, None, ())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupt_and_a_password_are_never_lost_when_a_worker_is_killed_at_any_changing_call(lab):
    instance = lab.create().id
    lab.wait_ready(instance)
    lab.wait_until(lambda: lab.get(instance).guest.agent, "the agent", 30)
    seen = 0
    # Killed before the act it comes once; between the act and its mark nobody can tell, and it comes again.
    for n, times in ((1, 1), (2, 2), (3, 1)):
        call, request = lab.call(crash_at=n), r.SendNmi(instance=instance)
        lab.killed("send_nmi", call, request)
        lab.another_driver().send_nmi(call.again(), request)
        seen += times
        assert len(lab.wait_for_line(instance, "NMI received", seen)) == seen, f"killed at {n}"
        password = r.SetAdminPassword(instance=instance, password=f"word-{n}")
        call = lab.call(crash_at=n)
        lab.killed("set_admin_password", call, password)
        lab.another_driver().set_admin_password(call.again(), password)
        kept = shadow(lab, instance).splitlines()[0].split(":")[1]
        assert kept == hashed(f"word-{n}", kept.split("$")[2]), f"killed at {n}"


@pytest.mark.slow
def test_an_interrupt_reaches_the_guests_kernel_once_for_each_operation(lab):
    instance = lab.create().id
    lab.wait_ready(instance)
    call, request = lab.call(), r.SendNmi(instance=instance)
    lab.driver.send_nmi(call, request)
    lab.wait_for_line(instance, "NMI received")
    lab.another_driver().send_nmi(call.again(), request)
    lab.driver.send_nmi(lab.call(), request)
    assert len(lab.wait_for_line(instance, "NMI received", 2)) == 2
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    with pytest.raises(InvalidState, match=r"stopped.*running"):
        lab.driver.send_nmi(lab.call(), request)


def asked(lab, instance: str, command: str, **arguments: object):
    """What the guest's agent answers to the test itself."""
    domain = lab.native().lookupByUUIDString(instance)
    question = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, question, 10, 0))["return"]


def shadow(lab, instance: str) -> str:
    """/etc/shadow of the guest."""
    handle = asked(lab, instance, "guest-file-open", path="/etc/shadow", mode="r")
    return base64.b64decode(asked(lab, instance, "guest-file-read", handle=handle)["buf-b64"]).decode()


def hashed(password: str, salt: str) -> str:
    command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    return subprocess.run(
        command, input=password, capture_output=True, check=True, timeout=30, text=True
    ).stdout.strip()


@pytest.mark.slow
def test_the_guests_agent_sets_the_password_of_its_administrator_once_and_nothing_shows_it(lab):
    instance = lab.create().id
    lab.wait_ready(instance)
    lab.wait_until(lambda: lab.get(instance).guest.agent, "the agent", 30)
    call, request = lab.call(), r.SetAdminPassword(instance=instance, password="pass word:1")
    lab.driver.set_admin_password(call, request)
    entry = shadow(lab, instance).splitlines()[0].split(":")
    assert entry[0] == "root"
    assert entry[1] == hashed("pass word:1", entry[1].split("$")[2])
    again = call.again()
    lab.another_driver().set_admin_password(again, request)
    assert again.guards == 0
    assert len(lab.wait_for_line(instance, "password of root set")) == 1
    definition = lab.native().lookupByUUIDString(instance).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert "pass word:1" not in definition + str(call.progressed) + lab.console(instance)
    with pytest.raises(GuestRefused, match="guest-set-user-password"):
        lab.driver.set_admin_password(
            lab.call(), r.SetAdminPassword(instance=instance, user="nobody-here", password="p")
        )


def test_a_guest_without_an_agent_has_its_password_refused_in_words_that_say_why(lab):
    instance = lab.create().id
    call = lab.call()
    with pytest.raises(InvalidState, match="no guest agent answers") as caught:
        lab.driver.set_admin_password(call, r.SetAdminPassword(instance=instance, password="secret-123"))
    assert "secret-123" not in str(caught.value)
    assert call.guards == 0
    assert lab.get(instance).guest.agent is False
