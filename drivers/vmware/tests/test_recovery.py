"""What the kit does not kill: reverts with a note that a snapshot takes away, image uploads, tasks of the older attempt."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from pyVmomi import vim

from federation.contract import requests as r
from federation.contract.call import Revoked
from federation.contract.errors import Cancelled, TimedOut
from federation.contract.instances import BootImage, DataDisk, ImageFormat, PowerState
from federation.testing.calls import RecordedCall

MEBIBYTE = 1 << 20


class OutOfTime(RecordedCall):
    """Its deadline passes at a guard: the worker raises timed_out there, once."""

    late_at = 0

    def guard(self) -> None:
        super().guard()
        if self.guards == self.late_at:
            raise TimedOut("the deadline has passed")


def image(lab) -> BootImage:
    content = b"boot" * (MEBIBYTE // 4)
    (lab.images / "disk.raw").write_bytes(content)
    return BootImage(
        url=f"file://{lab.images}/disk.raw",
        checksum=f"sha256:{hashlib.sha256(content).hexdigest()}",
        format=ImageFormat.RAW,
        size_bytes=2 * MEBIBYTE,
    )


def request(lab, **changes) -> r.Create:
    return r.Create(instance=str(uuid.uuid4()), spec=lab.spec(**changes))


def guards_of(lab, **changes) -> int:
    call, wanted = lab.call(), request(lab, **changes)
    lab.driver.create(call, wanted)
    lab.destroy(wanted.instance)
    return call.guards


@pytest.mark.slow
def test_an_image_creation_killed_at_any_changing_call_ends_as_one_machine_that_was_started_once(lab):
    disk = image(lab)
    for n in range(1, guards_of(lab, boot=disk) + 2):
        wanted, call = request(lab, boot=disk), lab.call(crash_at=n)
        lab.killed("create", call, wanted)
        seen = lab.another_driver().create(call.again(), wanted)
        assert seen.power_state is PowerState.RUNNING, f"killed at {n}"
        assert [one.size_bytes for one in seen.disks] == [2 * MEBIBYTE], f"killed at {n}"
        mine = [one for one in lab.eyes.machines() if one.name == wanted.spec.name]
        started = [e for e in lab.eyes.events(vim.event.VmPoweredOnEvent) if e.vm.name == wanted.spec.name]
        assert (len(mine), len(started)) == (1, 1), f"killed at {n}"
        lab.destroy(wanted.instance)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["template", "image"])
@pytest.mark.parametrize("ending", [Cancelled, TimedOut])
def test_a_creation_that_is_given_up_at_any_changing_call_leaves_nothing(lab, source, ending):
    changes = {"boot": image(lab)} if source == "image" else {"data_disks": (DataDisk(size_bytes=MEBIBYTE),)}
    count = guards_of(lab, **changes)
    files, machines = lab.eyes.files(), len(lab.eyes.machines())
    for n in range(1, count + 1):
        if ending is Cancelled:
            call = lab.call(cancel_at=n)
        else:
            call = OutOfTime(clock=lab.call().clock, cluster="lab-cluster")
            call.late_at = n
        with pytest.raises(ending):
            lab.driver.create(call, request(lab, **changes))
        assert (lab.eyes.files(), len(lab.eyes.machines())) == (files, machines), f"given up at {n} of {count}"


def test_a_revoked_creation_changes_nothing_more_and_undoes_nothing(lab):
    call = lab.call(revoke_at=2)
    with pytest.raises(Revoked):
        lab.driver.create(call, request(lab))
    assert call.guards == 2


def _forget(lab, instance: str) -> None:
    """What a real revert does: the machine's extraConfig is that of the snapshot's time again, without the note of the revert."""
    native = lab.eyes.machine(instance)
    notes = {one.key: one.value for one in native.config.extraConfig}
    older = {
        key: value.replace(_reverting(value), '"reverting":""') for key, value in notes.items() if "reverting" in value
    }
    values = [vim.option.OptionValue(key=key, value=value) for key, value in older.items()]
    native.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=values))


def _reverting(value: str) -> str:
    start = value.index('"reverting":"')
    return value[start : value.index('"', start + len('"reverting":"')) + 1]


def test_a_revert_whose_worker_died_behind_it_is_not_reverted_again(lab):
    instance = lab.create(start=False).id
    taken = lab.call()
    lab.driver.create_snapshot(taken, r.CreateSnapshot(instance=instance, name="before"))
    wanted = r.RevertSnapshot(instance=instance, snapshot=taken.operation)
    lab.driver.revert_snapshot(lab.call(), wanted)  # makes the attribute known to vCenter
    whole = lab.call()
    lab.driver.revert_snapshot(whole, wanted)
    call = lab.call(crash_at=whole.guards)
    lab.killed("revert_snapshot", call, wanted)
    _forget(lab, instance)
    again = call.again()
    lab.another_driver().revert_snapshot(again, wanted)
    assert again.guards == 1, "the closing mark, and no second revert"


def test_a_revert_whose_worker_died_before_it_is_made_by_the_next(lab):
    instance = lab.create(start=False).id
    taken = lab.call()
    lab.driver.create_snapshot(taken, r.CreateSnapshot(instance=instance, name="before"))
    wanted = r.RevertSnapshot(instance=instance, snapshot=taken.operation)
    whole = lab.call()
    lab.driver.revert_snapshot(whole, wanted)
    for n in range(1, whole.guards):
        call = lab.call(crash_at=n)
        lab.killed("revert_snapshot", call, wanted)
        again = call.again()
        lab.another_driver().revert_snapshot(again, wanted)
        assert again.guards >= 2, f"killed at {n}: the revert and the closing mark were still to come"
