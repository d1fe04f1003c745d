"""The simulated driver undisturbed: what it does, what it refuses, and that a refusal leaves nothing behind."""

from __future__ import annotations

import time
from importlib.metadata import entry_points
from itertools import pairwise

import msgspec
import pytest
from testing.scenarios import GIB, INSTANCE, SCENARIOS, Named, create, do, full_spec, new_id, node

from federation.contract import requests as r
from federation.contract.capabilities import Capability, Limits
from federation.contract.errors import (
    AlreadyExists,
    HypervisorUnreachable,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    TimedOut,
)
from federation.contract.instances import (
    Firmware,
    Flavour,
    Instance,
    PowerState,
    Topology,
)
from federation.contract.operations import DECLARED, find
from federation.contract.results import Destroyed
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.faults import Action, Fault, Phase
from federation.testing.hypervisor.log import read_log
from federation.testing.hypervisor.profiles import Delay
from federation.testing.hypervisor.settings import SimulatedSettings
from federation.testing.simulated import SimulatedDriver


def test_the_driver_is_found_by_its_entry_point():
    (point,) = entry_points(group="federation.drivers", name="simulated")
    assert point.load() is SimulatedDriver


def test_the_driver_has_a_method_for_every_operation_of_the_contract():
    assert [o.name for o in DECLARED if not callable(getattr(SimulatedDriver, o.name, None))] == []


def test_an_instance_is_created_with_everything_that_was_asked_for(driver):
    made = do(driver, r.Create(instance=INSTANCE, spec=full_spec()))
    assert (made.id, made.name, made.node, made.power_state) == (INSTANCE, "one", "node-1", PowerState.RUNNING)
    assert (made.vcpus, made.memory_bytes, made.metadata, made.owned) == (2, GIB, {"owner": "tests"}, True)
    assert [disk.name.removeprefix(INSTANCE) for disk in made.disks] == ["-root", "-data0", "-data1", "-seed"]
    assert made.interfaces[0].mac.startswith("52:54:00:")
    assert do(driver, r.GetInstance(instance=INSTANCE)) == made


def test_what_the_operations_say_is_what_a_read_shows(driver):
    for name, scenario in SCENARIOS.items():
        if find(name.split()[0]).result not in {Instance, Destroyed} or scenario.settings or "volume" in name:
            continue
        instance = new_id()
        for request in (*scenario.before, scenario.request):
            result = do(driver, moved(request, instance))
        if name.startswith("destroy"):
            with pytest.raises(NotFound):
                do(driver, r.GetInstance(instance=instance))
        else:
            assert do(driver, r.GetInstance(instance=instance)) == result, name


def moved(request, instance):
    """The same request for another instance."""
    if isinstance(request, Named):
        return Named(request.operation, moved(request.request, instance))
    if isinstance(request, r.Create):
        request = msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, name=instance))
    return msgspec.structs.replace(request, instance=instance)


def test_a_node_shows_what_its_instances_take_and_gets_it_all_back(driver):
    empty = node(driver)
    do(driver, create())
    used = node(driver)
    assert (used.instances, used.vcpus_used, used.memory_bytes_used) == (1, 2, GIB)
    assert used.storage_bytes_used == 2 * GIB
    do(driver, r.Suspend(instance=INSTANCE))
    assert (node(driver).memory_bytes_used, node(driver).storage_bytes_used) == (0, 3 * GIB)
    do(driver, r.Destroy(instance=INSTANCE))
    assert node(driver) == empty


def test_destroying_also_removes_what_a_failed_create_left(driver, control, faults, tmp_path):
    with pytest.raises(SimulatedCrash):
        do(driver, r.Create(instance=INSTANCE, spec=full_spec()), RecordedCall(crash_at=3))
    assert control.machine(INSTANCE).disks
    with pytest.raises(AlreadyExists, match="destroy it first"):
        do(driver, create())
    do(driver, r.Destroy(instance=INSTANCE))
    assert control.machine(INSTANCE) is None


def test_a_guest_that_ignores_the_power_button_makes_the_graceful_forms_time_out_and_the_hard_ones_work(driver):
    do(driver, create(extensions={"simulated": {"ignores_power_button": True}}))
    call = RecordedCall()
    with pytest.raises(TimedOut):
        do(driver, r.PowerOff(instance=INSTANCE, mode=r.PowerOffMode.GRACEFUL, timeout_seconds=7), call)
    assert call.slept == [7.0]
    with pytest.raises(TimedOut):
        do(driver, r.Reboot(instance=INSTANCE, mode=r.RebootMode.SOFT, timeout_seconds=7))
    assert do(driver, r.Reboot(instance=INSTANCE)).power_state is PowerState.RUNNING
    assert do(driver, r.PowerOff(instance=INSTANCE)).power_state is PowerState.STOPPED


def test_a_resize_cannot_change_the_firmware(driver):
    do(driver, create(start=False))
    with pytest.raises(InvalidRequest, match="firmware"):
        do(
            driver,
            r.Resize(instance=INSTANCE, flavour=Flavour(vcpus=1, memory_bytes=GIB, firmware=Firmware.UEFI)),
        )


def test_a_resize_to_another_topology_is_a_change(driver, control):
    do(driver, create(start=False))
    do(driver, r.Resize(instance=INSTANCE, flavour=Flavour(vcpus=2, memory_bytes=GIB, topology=Topology(cores=2))))
    assert control.machine(INSTANCE).topology == (1, 2, 1)


def test_instances_are_listed_page_by_page_in_the_order_of_their_ids(driver):
    ids = sorted(new_id() for _ in range(7))
    for number, instance in enumerate(ids):
        do(driver, create(instance, name=f"n{number}", node=f"node-{number % 2 + 1}"))
    found, after = [], None
    while True:
        page = do(driver, r.ListInstances(limit=3, after=after))
        found += [instance.id for instance in page.instances]
        after = page.next
        if after is None:
            break
    assert found == ids
    second = do(driver, r.ListInstances(node="node-2")).instances
    assert {instance.id for instance in second} == set(ids[1::2])
    with pytest.raises(InvalidRequest):
        do(driver, r.ListInstances(node="node-9"))


def test_a_capability_can_be_taken_away_and_a_limit_set(open_driver, tmp_path):
    driver = open_driver(without=(Capability.RESIZE,), limits=Limits(max_vcpus=1))
    with pytest.raises(NotSupported, match="resize"):
        do(driver, SCENARIOS["resize"].request)
    with pytest.raises(InvalidRequest, match="at most 1"):
        do(driver, create())
    assert read_log(tmp_path / "state").effects == ()


def test_the_console_shows_every_boot_and_a_panic_and_is_cut_at_the_front(driver, control):
    do(driver, create())
    do(driver, r.Reboot(instance=INSTANCE))
    text = do(driver, r.GetConsoleOutput(instance=INSTANCE)).text
    assert [line for line in text.splitlines() if line.startswith("boot")] == [
        "boot 1 of one: 2 processors",
    ]
    assert "boot 2 of one" in text
    control.crash_guest(INSTANCE)
    cut = do(driver, r.GetConsoleOutput(instance=INSTANCE, max_bytes=12))
    assert (cut.text, cut.truncated) == ("not syncing\n", True)


def test_a_crashed_guest_is_seen_and_can_be_started_again(driver, control):
    do(driver, create())
    control.crash_guest(INSTANCE)
    assert do(driver, r.GetInstance(instance=INSTANCE)).power_state is PowerState.CRASHED
    assert node(driver).memory_bytes_used == 0
    assert do(driver, r.PowerOn(instance=INSTANCE)).power_state is PowerState.RUNNING


def test_a_node_that_does_not_answer_changes_nothing_and_says_so(driver, control):
    do(driver, create())
    control.set_node("node-1", reachable=False)
    assert not node(driver).reachable
    with pytest.raises(HypervisorUnreachable):
        do(driver, r.PowerOff(instance=INSTANCE))
    with pytest.raises(HypervisorUnreachable):
        do(driver, create(new_id(), name="two"))
    control.set_node("node-1", reachable=True, accepts_instances=False)
    with pytest.raises(InvalidState, match="takes no new instances"):
        do(driver, create(new_id(), name="two"))
    do(driver, r.PowerOff(instance=INSTANCE))


def test_delays_take_their_time_by_the_clock_and_are_the_same_for_the_same_seed(open_driver, tmp_path, clock):
    def took(where, seed):
        driver = open_driver(where, pace=1.0, seed=seed, delays={"define": Delay(mean=50.0)})
        started = clock.monotonic()
        do(driver, create(), RecordedCall("99999999-9999-4999-8999-999999999999", clock=clock))
        return clock.monotonic() - started

    first = took("one", 1)
    assert 50.9 < first < 53
    assert took("two", 1) == pytest.approx(first)
    assert took("three", 2) != pytest.approx(first)
    effects = read_log(tmp_path / "one").effects
    assert [round(e.ended - e.started, 6) > 0 for e in effects] == [True] * 3
    assert all(a.ended <= b.started for a, b in pairwise(effects))


def test_a_call_that_stays_under_way_makes_the_next_attempt_wait_and_then_give_up_as_unknown(
    open_driver, clock, faults
):
    driver = open_driver(call_wait_seconds=9.0)
    faults.plant(Fault(action=Action.HANG, phase=Phase.UNDER_WAY, kind="start", name="a"))
    faults.plant(Fault(action=Action.CRASH, phase=Phase.UNDER_WAY, kind="start", name="b"))
    call = RecordedCall(clock=clock)
    with pytest.raises(SimulatedCrash):
        do(driver, create(), call)
    with pytest.raises(OutcomeUnknown, match="still under way"):
        do(driver, create(), call.again())
    started = clock.monotonic()
    faults.release("a")
    assert do(driver, create(), call.again()).power_state is PowerState.RUNNING
    assert clock.monotonic() - started < 1


def test_progress_only_grows(driver):
    call = RecordedCall()
    do(driver, r.Create(instance=INSTANCE, spec=full_spec()), call)
    percents = [percent for percent, _ in call.progressed]
    assert percents == sorted(percents)
    assert len(percents) > 3


def test_settings_of_another_driver_or_cluster_are_refused(open_driver, tmp_path):
    class Other(msgspec.Struct):
        pass

    with pytest.raises(InvalidRequest, match="SimulatedSettings"):
        SimulatedDriver.open(Other(), "test")
    with pytest.raises(InvalidRequest, match="state_directory is empty"):
        SimulatedDriver.open(SimulatedSettings(), "test")
    open_driver()
    with pytest.raises(InvalidRequest, match="belongs to cluster test, not elsewhere"):
        open_driver(cluster="elsewhere")


def test_the_settings_are_read_from_a_configuration_section():
    section = {
        "state_directory": "/somewhere", "kind": "hyperv", "pace": 0.01, "seed": 3,
        "nodes": [{"name": "a", "vcpus": 4}], "without": ["suspend"], "delays": {"start": {"mean": 1.0}},
        "faults": [{"action": "kill", "kind": "start", "nth": 2}],
    }  # fmt: skip
    settings = msgspec.convert(section, SimulatedSettings)
    assert settings.inventory()[0].vcpus == 4
    assert Capability.SUSPEND not in settings.capabilities.flags
    assert settings.faults[0].nth == 2


def test_the_driver_that_does_nothing_answers_every_operation_asks_leave_for_changes_and_touches_no_disk(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    driver = SimulatedDriver.open(SimulatedSettings(nothing=True), "test")
    for name, scenario in SCENARIOS.items():
        call = RecordedCall()
        result = do(driver, scenario.request, call)
        assert call.guards == 1, name
        assert isinstance(result, next(o.result for o in DECLARED if o.name == name.split()[0]))
    for query in (r.Describe(), r.Probe(), r.ListNodes(), r.ListInstances(), r.GetConsoleOutput(instance=INSTANCE)):
        call = RecordedCall()
        do(driver, query, call)
        assert call.guards == 0
    driver.close()
    assert list(tmp_path.iterdir()) == []


def test_the_driver_that_does_nothing_costs_less_than_fifty_microseconds_a_call():
    driver = SimulatedDriver.open(SimulatedSettings(nothing=True), "test")
    call, request = RecordedCall(), r.PowerOn(instance=INSTANCE)
    best = min(timed(lambda: driver.power_on(call, request), 2000) for _ in range(5))
    assert best < 50e-6


def test_a_thousand_changes_a_second_are_possible(open_driver, tmp_path):
    driver = open_driver()
    do(driver, create())

    def back_and_forth():
        do(driver, r.Pause(instance=INSTANCE))
        do(driver, r.Unpause(instance=INSTANCE))

    best = min(timed(back_and_forth, 100) for _ in range(5))
    assert 2 / best > 1000


def timed(function, times):
    """Seconds of this thread's own work for one call: what other processes do to the machine does not count."""
    started = time.thread_time()
    for _ in range(times):
        function()
    return (time.thread_time() - started) / times
