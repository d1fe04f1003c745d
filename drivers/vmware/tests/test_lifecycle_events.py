"""What the watcher tells: every change of a machine once, whoever made it, also while its session was lost."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from federation.contract.instances import PowerState
from federation_vmware import facts, lifecycle_events
from federation_vmware.facts import Look
from federation_vmware.lifecycle_events import Appeared, Moved, PowerChanged, Vanished
from federation_vmware.machine import Fleet
from federation_vmware.settings import Timeouts

_spec = importlib.util.spec_from_file_location("vmware_events_proxy", Path(__file__).with_name("faulty_proxy.py"))
_proxies: Any = importlib.util.module_from_spec(_spec)
sys.modules["vmware_events_proxy"] = _proxies
_spec.loader.exec_module(_proxies)

machines = st.dictionaries(
    st.sampled_from(["vm-1", "vm-2", "vm-3"]),
    st.tuples(st.sampled_from(["poweredOn", "poweredOff", "suspended"]), st.sampled_from(["host-1", "host-2"])),
)


def looks(found) -> dict[str, Look]:
    return {
        key: Look(None, {"runtime.powerState": power, "runtime.host": vim.HostSystem(host, None)})
        for key, (power, host) in found.items()
    }


@given(before=machines, after=machines)
def test_every_difference_is_one_event_and_nothing_else_is(before, after):
    old, new = looks(before), looks(after)
    events = lifecycle_events.between(old, new)
    kinds = [type(event) for event in events]
    both = before.keys() & after.keys()
    assert kinds.count(Appeared) == len(after.keys() - before.keys())
    assert kinds.count(Vanished) == len(before.keys() - after.keys())
    assert kinds.count(PowerChanged) == sum(before[key][0] != after[key][0] for key in both)
    assert kinds.count(Moved) == sum(before[key][1] != after[key][1] for key in both)
    assert lifecycle_events.between(new, new) == []


def heard(events: list, kind: type, key: str) -> list:
    return [event for event in events if type(event) is kind and facts.object_id(event.look.reference) == key]


def wait_until(condition, what: str, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)


@pytest.mark.vcenter
def test_what_others_do_to_a_machine_is_told_once_also_when_the_session_ends_meanwhile(lab, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger=lifecycle_events.logger.name)
    proxy = _proxies.FaultyProxy(lab.vcenter, tmp_path / "proxy")
    events: list = []
    settings = lab.settings
    quick = Timeouts(request_seconds=10, watch_seconds=0.2)
    fields = {name: getattr(settings, name) for name in settings.__struct_fields__}
    fleet = Fleet(
        type(settings)(**(fields | {"port": proxy.port, "ca_file": proxy.ca_file, "timeouts": quick})),
        "lab-cluster",
        [_breaks, events.append],
    )
    try:
        fleet.inventory()
        ours = lab.create()
        native = lab.eyes.machine(ours.id)
        key = native._GetMoId()

        def told(state: PowerState) -> bool:
            last = [*heard(events, Appeared, key), *heard(events, PowerChanged, key)][-1:]
            return bool(last) and last[0].look.power_state is state

        wait_until(lambda: told(PowerState.RUNNING), "a machine that appeared and runs")
        native.PowerOffVM_Task()
        wait_until(lambda: told(PowerState.STOPPED), "a machine that stopped")
        proxy.refuse("WaitForUpdatesEx", "NotAuthenticated", times=3)
        native.PowerOnVM_Task()
        wait_until(lambda: told(PowerState.RUNNING), "a start while the session was lost")
        assert heard(events, PowerChanged, key)[-1].before is PowerState.STOPPED
        lab.destroy(ours.id)
        wait_until(lambda: heard(events, Vanished, key), "a machine that vanished")
        assert (len(heard(events, Appeared, key)), len(heard(events, Vanished, key))) == (1, 1)
    finally:
        fleet.close()
        proxy.close()
    assert any(ours.id in line and "was running, is stopped" in line for line in caplog.messages)


def _breaks(_event: Any) -> None:
    raise RuntimeError("a listener that fails ends nothing")
