"""Moves between two real hosts that are cancelled, killed, or lose a host on the way: the machine is in one place."""

from __future__ import annotations

import re

import libvirt
import msgspec
import pytest

from federation.contract import requests as r
from federation.contract.errors import (
    Cancelled,
    HypervisorUnreachable,
)
from federation.contract.instances import PowerState
from federation.testing.calls import RecordedCall, SimulatedCrash

LIVE, COLD = r.MigrateMode.LIVE, r.MigrateMode.COLD


class Interrupted(RecordedCall):
    """Something happens at the first wait while memory is on its way."""

    happens = staticmethod(lambda: None)
    happened = False

    def sleep(self, seconds: float) -> None:
        on_its_way = any(stage == "migrating" and percent is not None for percent, stage in self.progressed)
        if on_its_way and not self.happened:
            self.happened = True
            self.happens()
        super().sleep(seconds)


@pytest.mark.slow
def test_a_cancelled_migration_is_given_up_and_the_guest_runs_on_where_it_was(lab):
    made = lab.create(lab.rich())
    lab.wait_ready(made.id)
    lab.slow_down(made.id)
    before = lab.left(0, made.id)
    call = Interrupted(clock=lab.call().clock, cluster="lab-cluster")
    call.happens = call.cancel
    with pytest.raises(Cancelled):
        lab.migrate(made.id, LIVE, call=call)
    assert (lab.get(made.id).node, lab.get(made.id).power_state) == (lab.nodes[0], PowerState.RUNNING)
    assert (lab.left(0, made.id), lab.left(1, made.id)) == (before, [])
    assert 'leaving="' not in lab.native(0).lookupByUUIDString(made.id).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    count = len(lab.beats(made.id))
    lab.wait_until(lambda: len(lab.beats(made.id)) > count, "the guest to go on")


@pytest.mark.slow
def test_a_worker_that_dies_in_the_middle_leaves_the_migration_running_and_the_next_one_takes_it_up(lab):
    made = lab.create(lab.rich())
    lab.wait_ready(made.id)
    lab.slow_down(made.id)

    def die() -> None:
        raise SimulatedCrash("crashed while the memory was on its way")

    call = Interrupted(clock=lab.call().clock, cluster="lab-cluster")
    call.happens = die
    with pytest.raises(SimulatedCrash):
        lab.migrate(made.id, LIVE, call=call)
    driver = lab.another_driver()
    # One and the same instance, wherever it is looked for.
    assert [one.id for one in driver.list_instances(lab.call(), r.ListInstances()).instances] == [made.id]
    again = lab.call(operation=call.operation, attempt=2)
    moved = driver.migrate(again, r.Migrate(instance=made.id, node=lab.nodes[1]))
    assert (moved.node, moved.power_state) == (lab.nodes[1], PowerState.RUNNING)
    assert lab.left(0, made.id) == []
    count = len(lab.beats(made.id))
    lab.wait_until(lambda: len(lab.beats(made.id)) > count, "the guest to go on")
    assert len(lab.wait_for_line(made.id, "boot-id")) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_libvirtd_that_is_killed_in_the_middle_leaves_the_machine_on_exactly_one_node(lab, victim):
    made = lab.create(lab.rich())
    lab.wait_ready(made.id)
    lab.slow_down(made.id)

    def strike() -> None:
        lab.hosts.kill(victim)
        lab.hosts.start_node(victim)

    call = Interrupted(clock=lab.call().clock, cluster="lab-cluster")
    call.happens = strike
    moved = lab.migrate(made.id, LIVE, call=call)
    assert call.happened
    assert (moved.node, moved.power_state) == (lab.nodes[1], PowerState.RUNNING)
    assert lab.left(0, made.id) == []
    assert len(lab.wait_for_line(made.id, "boot-id")) == 1


def test_a_node_that_does_not_answer_is_refused_before_anything_is_changed(lab):
    made = lab.create(start=False)
    lab.hosts.kill(1)
    call = lab.call()
    with pytest.raises(HypervisorUnreachable, match="host1"):
        lab.migrate(made.id, COLD, call=call)
    assert call.guards == 0
    lab.hosts.start_node(1)
    assert lab.migrate(made.id, COLD).node == lab.nodes[1]


def end_state(lab, instance: str, result) -> tuple[object, list[str], list[str]]:
    """What two runs for different instances must have in common."""

    def plain(text: object) -> str:
        return re.sub(r"lab-[0-9a-f]{8}", "NAME", str(text).replace(instance, "ID"))

    arrived = lab.native(1).lookupByUUIDString(instance)
    marks = {"leaving": 'leaving="' in arrived.XMLDesc(), "arrived": 'arrived="' in arrived.XMLDesc()}
    return plain((msgspec.to_builtins(msgspec.structs.replace(result, guest=None)), marks)), *(
        sorted(plain(entry) for entry in lab.left(node, instance)) for node in (0, 1)
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", [COLD, LIVE])
def test_a_migration_killed_at_any_changing_call_ends_as_if_nothing_had_happened(lab, mode):
    def prepared() -> str:
        return lab.create(lab.rich(), start=mode is LIVE).id

    prepared()
    instance, call = prepared(), lab.call()
    lab.migrate(instance, mode)  # The image is cached on both nodes from now on.
    lab.clear()
    instance, call = prepared(), lab.call()
    expected = end_state(lab, instance, lab.migrate(instance, mode, call=call))
    assert expected[1] == []
    for n in range(1, call.guards + 2):
        lab.clear()
        instance, killed = prepared(), lab.call(crash_at=n)
        request = r.Migrate(instance=instance, node=lab.nodes[1], mode=mode)
        lab.killed("migrate", killed, request)
        driver = lab.another_driver()
        result = driver.migrate(killed.again(), request)
        assert end_state(lab, instance, result) == expected, f"killed at {n} of {call.guards}"
        driver.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_migration_cancelled_at_any_changing_call_leaves_it_on_exactly_one_node(lab):
    instance = lab.create(lab.rich(), start=False).id
    lab.migrate(instance, COLD)
    lab.clear()
    call, instance = lab.call(), lab.create(lab.rich(), start=False).id
    lab.migrate(instance, COLD, call=call)
    outcomes = set()
    for n in range(1, call.guards + 1):
        lab.clear()
        instance = lab.create(lab.rich(), start=False).id
        before = lab.left(0, instance)
        try:
            lab.migrate(instance, COLD, call=lab.call(cancel_at=n))
            outcomes.add("finished")
            assert lab.left(0, instance) == [], f"cancelled at {n} of {call.guards}"
        except Cancelled:
            outcomes.add("cancelled")
            assert (lab.left(0, instance), lab.left(1, instance)) == (before, []), f"cancelled at {n}"
            assert 'leaving="' not in lab.native(0).lookupByUUIDString(instance).XMLDesc()
    assert outcomes == {"cancelled", "finished"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_destroy_behind_a_migration_that_nobody_finished_leaves_nothing_on_either_node(lab):
    instance, call = lab.create(lab.rich(), start=False).id, lab.call()
    lab.migrate(instance, COLD, call=call)
    lab.clear()
    for n in range(4, call.guards + 2, 3):
        instance = lab.create(lab.rich(), start=False).id
        lab.killed("migrate", lab.call(crash_at=n), r.Migrate(instance=instance, node=lab.nodes[1], mode=COLD))
        lab.destroy(instance)
        assert (lab.left(0, instance), lab.left(1, instance)) == ([], []), f"killed at {n} of {call.guards}"
