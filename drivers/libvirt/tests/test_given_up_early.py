"""A long change is given up before the host has begun it: what was sent must not come about later.

Giving up may come too late, and then the operation has succeeded and says so.

The calls of libvirt that move a guest's memory or a disk's bytes are held back here, as a busy libvirtd holds them back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import libvirt
import pytest

from federation.contract import requests as r
from federation.contract.captures import CaptureTemplate
from federation.contract.errors import Cancelled
from federation.contract.instances import PowerState
from federation.testing.calls import RecordedCall

HELD_SECONDS = 1.0


class CancelledAtTheFirstWait(RecordedCall):
    """Which comes as soon as the change has been sent."""

    def sleep(self, seconds: float) -> None:
        if not self.slept:
            self.cancel()
        super().sleep(seconds)


@pytest.fixture
def held_back(monkeypatch) -> Callable[[type, str], threading.Event]:
    """Hold one method of libvirt back, which is what the returned event tells the end of."""

    def hold(owner: type, method: str) -> threading.Event:
        real, ended = getattr(owner, method), threading.Event()

        def late(*arguments: object) -> object:
            time.sleep(HELD_SECONDS)
            try:
                return real(*arguments)
            finally:
                ended.set()

        monkeypatch.setattr(owner, method, late)
        return ended

    return hold


def cancelled(lab) -> RecordedCall:
    return CancelledAtTheFirstWait(clock=lab.call().clock, cluster="lab-cluster")


def test_a_save(lab, held_back):
    instance = lab.create().id
    ended = held_back(libvirt.virDomain, "managedSave")
    expected = PowerState.SUSPENDED
    try:
        lab.driver.suspend(cancelled(lab), r.Suspend(instance=instance))
    except Cancelled:
        expected = PowerState.RUNNING
    assert ended.is_set(), "the driver has left while its own call was under way"
    assert lab.get(instance).power_state is expected
    assert lab.native().lookupByUUIDString(instance).hasManagedSaveImage() == (expected is PowerState.SUSPENDED)


def test_a_live_migration(lab, held_back):
    instance = lab.create(lab.spec(lab.image())).id
    ended = held_back(libvirt.virDomain, "migrateToURI3")
    expected, other = 1, 0
    try:
        lab.driver.migrate(cancelled(lab), r.Migrate(instance=instance, node=lab.nodes[1], mode=r.MigrateMode.LIVE))
    except Cancelled:
        expected, other = 0, 1
    assert ended.is_set(), "the driver has left while its own call was under way"
    assert (lab.get(instance).node, lab.get(instance).power_state) == (lab.nodes[expected], PowerState.RUNNING)
    assert lab.native(other).listAllDomains() == []


def test_a_copy_of_a_disk(lab, held_back):
    instance = lab.create(lab.spec(lab.image()), start=False).id
    before = lab.inventory()
    ended = held_back(libvirt.virStoragePool, "createXMLFrom")
    with pytest.raises(Cancelled):
        lab.driver.capture_image(
            cancelled(lab), r.CaptureImage(instance=instance, target=CaptureTemplate(template="held"))
        )
    assert ended.wait(5 * HELD_SECONDS)
    assert lab.inventory() == before
