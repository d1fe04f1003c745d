"""Snapshots, migration, guests, consoles, metrics, adoption and maintenance of the simulated driver."""

from __future__ import annotations

import pytest
from testing.scenarios import GIB, INSTANCE, PASSWORD, SNAPSHOT, create, do, image, new_id, node, snapshot

from federation.contract import requests as r
from federation.contract.capabilities import Capability, Limits
from federation.contract.consoles import ConsoleKind
from federation.contract.errors import (
    AlreadyExists,
    HypervisorUnreachable,
    InsufficientResources,
    InvalidState,
    NotFound,
    NotSupported,
)
from federation.contract.instances import Firmware, Flavour, ImageFormat, PowerState
from federation.testing.calls import RecordedCall, SimulatedCrash
from federation.testing.hypervisor.guest import digest_of
from federation.testing.hypervisor.profiles import HypervisorKind
from federation.testing.hypervisor.settings import ForeignSettings, NodeSettings

ROOT = f"{INSTANCE}-root"
REVERT = r.RevertSnapshot(instance=INSTANCE, snapshot=SNAPSHOT)
FOREIGN = "33333333-3333-4333-8333-333333333333"


def snapshots(driver):
    return do(driver, r.ListSnapshots(instance=INSTANCE)).snapshots


def test_reverting_brings_back_the_old_content_and_the_snapshots_power_state(driver, control):
    do(driver, create())
    control.write_guest(INSTANCE, ROOT, "old")
    do(driver, snapshot())
    control.write_guest(INSTANCE, ROOT, "new")
    assert do(driver, REVERT).power_state is PowerState.STOPPED
    assert control.machine(INSTANCE).root.content == "old"
    do(driver, r.PowerOn(instance=INSTANCE))
    kept = new_id()
    do(driver, snapshot(kept, memory=True))
    do(driver, r.PowerOff(instance=INSTANCE))
    boots = control.machine(INSTANCE).boots
    back = do(driver, r.RevertSnapshot(instance=INSTANCE, snapshot=kept))
    assert (back.power_state, control.machine(INSTANCE).boots) == (PowerState.RUNNING, boots)


def test_a_repeat_of_a_revert_takes_back_nothing_that_the_guest_wrote_since(driver, control):
    do(driver, create())
    do(driver, snapshot(memory=True))
    call = RecordedCall()
    do(driver, REVERT, call)
    control.write_guest(INSTANCE, ROOT, "since")
    do(driver, REVERT, call.again())
    assert control.machine(INSTANCE).root.content == "since"
    do(driver, REVERT)
    assert control.machine(INSTANCE).root.content != "since"


def test_snapshots_are_a_tree_that_heals_when_one_is_deleted(driver):
    first, second, third = (new_id() for _ in range(3))
    do(driver, create())
    do(driver, snapshot(first))
    do(driver, snapshot(second))
    do(driver, r.RevertSnapshot(instance=INSTANCE, snapshot=first))
    do(driver, snapshot(third))
    shown = {one.id: one for one in snapshots(driver)}
    assert [shown[one].parent for one in (first, second, third)] == [None, first, first]
    assert [one.id for one in shown.values() if one.current] == [third]
    do(driver, r.DeleteSnapshot(instance=INSTANCE, snapshot=first))
    assert {one.id: one.parent for one in snapshots(driver)} == {second: None, third: None}
    do(driver, r.DeleteSnapshot(instance=INSTANCE, snapshot=first))
    with pytest.raises(NotFound, match=first):
        do(driver, r.RevertSnapshot(instance=INSTANCE, snapshot=first))


def test_a_foreign_snapshot_is_shown_and_never_touched(driver, control):
    do(driver, create())
    control.plant_snapshot(INSTANCE, SNAPSHOT, "theirs")
    for request in (REVERT, r.DeleteSnapshot(instance=INSTANCE, snapshot=SNAPSHOT)):
        with pytest.raises(InvalidState, match="foreign"):
            do(driver, request)
    assert [one.owned for one in snapshots(driver)] == [False]


def test_a_snapshot_needs_what_it_promises_and_their_number_is_limited(open_driver):
    driver = open_driver(limits=Limits(max_snapshots=1))
    do(driver, create(start=False, extensions={"simulated": {"agent": False}}))
    with pytest.raises(InvalidState, match="expected running or paused"):
        do(driver, snapshot(memory=True))
    do(driver, r.PowerOn(instance=INSTANCE))
    with pytest.raises(InvalidState, match="no agent"):
        do(driver, snapshot(quiesce=True))
    do(driver, snapshot())
    with pytest.raises(InsufficientResources, match="at most 1"):
        do(driver, snapshot(new_id()))


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_no_guest_stays_frozen_by_a_snapshot(crash_at, driver, control):
    do(driver, create())
    call = RecordedCall(SNAPSHOT, crash_at=crash_at)
    request = snapshot(quiesce=True).request
    with pytest.raises(SimulatedCrash):
        do(driver, request, call)
    do(driver, request, call.again())
    machine = control.machine(INSTANCE)
    assert (machine.frozen_by, machine.snapshot(SNAPSHOT).quiesced) == (None, True)


def test_memory_of_a_snapshot_takes_storage_and_destroying_gives_everything_back(driver):
    empty = node(driver)
    do(driver, create())
    before = node(driver).storage_bytes_used
    do(driver, snapshot(memory=True))
    assert node(driver).storage_bytes_used == before + GIB
    do(driver, r.Destroy(instance=INSTANCE))
    assert node(driver) == empty


def test_a_migration_moves_what_is_booked_and_keeps_the_guest_running(driver, control):
    first, second = node(driver), node(driver, "node-2")
    made = do(driver, create())
    moved = do(driver, r.Migrate(instance=INSTANCE, node="node-2"))
    assert (moved.node, moved.power_state, control.machine(INSTANCE).boots) == ("node-2", PowerState.RUNNING, 1)
    assert node(driver) == first
    assert node(driver, "node-2").memory_bytes_used == second.memory_bytes_used + made.memory_bytes
    assert do(driver, r.Migrate(instance=INSTANCE, node="node-2")) == moved
    assert do(driver, r.ListInstances(node="node-1")).instances == ()


MIGRATE = r.Migrate(instance=INSTANCE, node="node-2")


def test_a_migration_is_refused_where_it_cannot_go(driver, control):
    do(driver, create())
    with pytest.raises(InvalidState, match="expected stopped"):
        do(driver, r.Migrate(instance=INSTANCE, node="node-2", mode=r.MigrateMode.COLD))
    with pytest.raises(NotFound, match="node-9"):
        do(driver, r.Migrate(instance=INSTANCE, node="node-9"))
    do(driver, r.SetNodeMaintenance(node="node-2", enabled=True))
    with pytest.raises(InvalidState, match="node-2 is in maintenance"):
        do(driver, MIGRATE)
    do(driver, r.SetNodeMaintenance(node="node-2", enabled=False))
    control.set_node("node-2", reachable=False)
    with pytest.raises(HypervisorUnreachable):
        do(driver, MIGRATE)
    control.set_node("node-2", reachable=True)
    do(driver, r.PowerOff(instance=INSTANCE))
    with pytest.raises(InvalidState, match="expected running"):
        do(driver, MIGRATE)
    assert control.machine(INSTANCE).node == "node-1"


def test_a_migration_to_a_full_node_leaves_the_instance_where_it_was(open_driver, control):
    small = NodeSettings(name="node-2", memory_bytes=GIB // 2)
    driver = open_driver(nodes=(NodeSettings(name="node-1"), small))
    do(driver, create())
    before = control.machine(INSTANCE)
    with pytest.raises(InsufficientResources):
        do(driver, MIGRATE)
    assert control.machine(INSTANCE) == before


def test_a_node_in_maintenance_takes_nothing_new_and_lets_run_what_runs(driver):
    do(driver, create())
    shown = do(driver, r.SetNodeMaintenance(node="node-1", enabled=True))
    assert (shown.maintenance, shown.accepts_instances) == (True, False)
    with pytest.raises(InvalidState, match="in maintenance"):
        do(driver, create(new_id(), name="two"))
    do(driver, r.Reboot(instance=INSTANCE))
    with pytest.raises(NotFound):
        do(driver, r.SetNodeMaintenance(node="node-9", enabled=True))
    do(driver, r.SetNodeMaintenance(node="node-1", enabled=False))
    do(driver, create(new_id(), name="two"))


def test_what_single_nodes_lack_is_shown_and_refused_there(open_driver):
    lacking = NodeSettings(name="node-1", lacks=(Capability.PAUSE, Capability.UEFI), addresses=("192.0.2.1",))
    driver = open_driver(nodes=(lacking, NodeSettings(name="node-2")))
    shown = node(driver)
    assert (shown.lacks, shown.addresses) == ({Capability.PAUSE, Capability.UEFI}, ("192.0.2.1",))
    do(driver, create())
    with pytest.raises(NotSupported, match="node node-1 lacks"):
        do(driver, r.Pause(instance=INSTANCE))
    with pytest.raises(NotSupported, match="uefi"):
        do(driver, create(new_id(), name="two", flavour=Flavour(vcpus=1, memory_bytes=GIB, firmware=Firmware.UEFI)))
    do(driver, MIGRATE)
    do(driver, r.Pause(instance=INSTANCE))


def test_a_foreign_machine_is_adopted_without_a_restart_and_only_once(open_driver, control):
    driver = open_driver(foreign=(ForeignSettings(id=FOREIGN, name="Old Server", node="node-2", disks=(GIB,)),))
    adopt = r.Adopt(instance=FOREIGN, name="server", node="node-2", metadata={"team": "a"})
    with pytest.raises(NotFound, match="is not on node node-1"):
        do(driver, r.Adopt(instance=FOREIGN, name="server", node="node-1"))
    do(driver, create(name="taken"))
    with pytest.raises(AlreadyExists, match="the name taken"):
        do(driver, r.Adopt(instance=FOREIGN, name="taken", node="node-2"))
    mine = do(driver, adopt)
    assert (mine.owned, mine.name, mine.metadata) == (True, "server", {"team": "a"})
    machine = control.machine(FOREIGN)
    assert (machine.boots, machine.native_name) == (1, "Old Server")
    assert do(driver, adopt) == mine
    with pytest.raises(AlreadyExists, match="adopted already"):
        do(driver, r.Adopt(instance=FOREIGN, name="other", node="node-2"))
    do(driver, r.Destroy(instance=FOREIGN))
    open_driver(foreign=(ForeignSettings(id=FOREIGN, name="Old Server", node="node-2", disks=(GIB,)),))
    assert control.machine(FOREIGN) is None


def test_a_password_reaches_the_guest_as_a_digest_and_is_written_nowhere(driver, control, tmp_path):
    do(driver, create())
    do(driver, r.SetAdminPassword(instance=INSTANCE, password=PASSWORD))
    do(driver, r.SetAdminPassword(instance=INSTANCE, password=PASSWORD, user="deploy"))
    machine = control.machine(INSTANCE)
    assert machine.passwords == dict.fromkeys(("root", "deploy"), digest_of(INSTANCE, PASSWORD))
    assert machine.password_sets == 2
    written = [file.read_bytes() for file in (tmp_path / "state").iterdir()]
    assert written
    assert not any(PASSWORD.encode() in content for content in written)


@pytest.mark.parametrize("agents", [True, False])
def test_a_password_needs_a_running_guest_with_an_agent(agents, open_driver):
    driver = open_driver(agents=agents)
    made = do(driver, create())
    assert made.guest.agent is agents
    request = r.SetAdminPassword(instance=INSTANCE, password=PASSWORD)
    if not agents:
        with pytest.raises(InvalidState, match="no agent answers"):
            do(driver, request)
    do(driver, r.PowerOff(instance=INSTANCE))
    with pytest.raises(InvalidState, match="is stopped, expected running"):
        do(driver, request)


def test_an_interrupt_reaches_a_running_guest_once_and_shows_on_its_console(driver, control):
    do(driver, create())
    call = RecordedCall()
    do(driver, r.SendNmi(instance=INSTANCE), call)
    do(driver, r.SendNmi(instance=INSTANCE), call.again())
    assert control.machine(INSTANCE).nmis == 1
    assert "NMI received" in do(driver, r.GetConsoleOutput(instance=INSTANCE)).text
    do(driver, r.Pause(instance=INSTANCE))
    with pytest.raises(InvalidState, match="is paused"):
        do(driver, r.SendNmi(instance=INSTANCE))


@pytest.mark.parametrize("kind", ConsoleKind)
def test_each_console_says_where_it_is_while_the_guest_is_there(kind, driver):
    do(driver, create())
    request = r.GetConsole(instance=INSTANCE, kind=kind)
    shown = do(driver, request)
    assert (shown.url is None) == (shown.host is not None and shown.port is not None)
    assert do(driver, request) == shown
    do(driver, r.PowerOff(instance=INSTANCE))
    with pytest.raises(InvalidState, match="is stopped"):
        do(driver, request)


def test_counters_grow_with_the_clock_stand_still_in_a_pause_and_start_again(driver, clock):
    do(driver, create())

    def read():
        return do(driver, r.GetMetrics(instance=INSTANCE))

    clock.advance(100)
    first = read()
    assert (first.cpu_seconds, first.disks[0].read_bytes) == (50.0, 100 << 20)
    clock.advance(10)
    assert read().cpu_seconds == 55.0
    do(driver, r.Pause(instance=INSTANCE))
    clock.advance(1000)
    assert read().cpu_seconds == 55.0
    do(driver, r.Unpause(instance=INSTANCE))
    clock.advance(10)
    assert read().cpu_seconds == 60.0
    do(driver, r.Reboot(instance=INSTANCE))
    assert read().cpu_seconds == 0.0


def test_a_hypervisor_that_counts_no_time_gives_the_share_in_use(open_driver, clock):
    driver = open_driver(kind=HypervisorKind.HYPERV)
    do(driver, create(node="hv-1", boot=image(format=ImageFormat.VHDX)))
    clock.advance(10)
    shown = do(driver, r.GetMetrics(instance=INSTANCE))
    assert (shown.cpu_seconds, shown.cpu_fraction) == (None, 0.25)


def test_what_is_on_a_node_that_does_not_answer_is_missing_and_the_node_is_named(driver, control):
    second = new_id()
    do(driver, create())
    do(driver, create(second, name="two", node="node-2"))
    control.set_node("node-1", reachable=False)
    page = do(driver, r.ListInstances())
    assert ([one.id for one in page.instances], page.unreachable) == ([second], ("node-1",))
    assert do(driver, r.ListInstances(node="node-2")).unreachable == ()
    for request in (r.GetInstance(instance=INSTANCE), r.GetMetrics(instance=INSTANCE)):
        with pytest.raises(HypervisorUnreachable):
            do(driver, request)
    assert node(driver).vcpus_total is None
