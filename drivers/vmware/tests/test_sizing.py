"""Other processors and memory, for machines that stand still and that run."""

from __future__ import annotations

import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import (
    InsufficientResources,
    InvalidRequest,
    InvalidState,
)
from federation.contract.instances import (
    Firmware,
    Flavour,
    PowerState,
)

MEBIBYTE = 1 << 20


def test_a_machine_that_takes_more_while_it_runs_says_so_and_grows_without_a_stop(lab):
    made = lab.create(lab.spec(extensions={"vmware": {"hot_add": True}}))
    assert made.hot_resize is True
    native = lab.eyes.machine(made.id)
    booted = native.summary.runtime.bootTime
    larger = Flavour(vcpus=2, memory_bytes=192 * MEBIBYTE)
    seen = lab.driver.resize(lab.call(), r.Resize(instance=made.id, flavour=larger, live=True))
    assert (seen.power_state, seen.vcpus, seen.memory_bytes) == (PowerState.RUNNING, 2, 192 * MEBIBYTE)
    assert native.summary.runtime.bootTime == booted
    again = lab.call()
    lab.driver.resize(again, r.Resize(instance=made.id, flavour=larger, live=True))
    assert again.guards == 0
    smaller = r.Resize(instance=made.id, flavour=Flavour(vcpus=1, memory_bytes=192 * MEBIBYTE), live=True)
    with pytest.raises(InvalidState, match="only grow"):
        lab.driver.resize(lab.call(), smaller)
    with pytest.raises(InvalidState, match="needs it stopped"):
        lab.driver.resize(lab.call(), msgspec.structs.replace(smaller, live=False))


def test_a_machine_that_takes_no_more_while_it_runs_says_so_and_stays_as_it_is(lab):
    made = lab.create()
    assert made.hot_resize is False
    larger = r.Resize(instance=made.id, flavour=Flavour(vcpus=2, memory_bytes=128 * MEBIBYTE), live=True)
    with pytest.raises(InvalidState, match="cpuHotAddEnabled"):
        lab.driver.resize(lab.call(), larger)
    assert lab.get(made.id).vcpus == 1
    lab.driver.power_off(lab.call(), r.PowerOff(instance=made.id, mode=r.PowerOffMode.HARD))
    assert lab.driver.resize(lab.call(), larger).vcpus == 2


def test_resize_needs_a_stopped_machine_and_a_node_that_can_hold_it(lab):
    instance = lab.create().id
    bigger = Flavour(vcpus=2, memory_bytes=256 * MEBIBYTE)
    with pytest.raises(InvalidState, match="running"):
        lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=bigger))
    lab.driver.power_off(lab.call(), r.PowerOff(instance=instance))
    seen = lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=bigger))
    assert (seen.vcpus, seen.memory_bytes) == (2, 256 * MEBIBYTE)
    uefi = Flavour(vcpus=2, memory_bytes=256 * MEBIBYTE, firmware=Firmware.UEFI)
    with pytest.raises(InvalidRequest, match="firmware"):
        lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=uefi))
    with pytest.raises(InsufficientResources, match="memory"):
        lab.driver.resize(lab.call(), r.Resize(instance=instance, flavour=Flavour(vcpus=1, memory_bytes=1 << 40)))
