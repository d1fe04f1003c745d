"""Volumes, interfaces, snapshots, captures, migration, nodes, adoption: the rules beside the happy path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from federation.conformance.asking import creation, mac_of, network, other_node
from federation.conformance.bench import Bench, Subject
from federation.conformance.expecting import seen_by_driver, snapshots_of
from federation.conformance.scenarios import BY_ID
from federation.conformance.scripted_call import Script, What
from federation.conformance.trying import expect_refusal, require
from federation.contract.capabilities import Capability

STOPPED = creation(start=False)


def _made(bench: Bench, node: int = 0, *, start: bool = False) -> Subject:
    subject = bench.subject(node)
    bench.succeed("create", creation(start=start)(bench, subject))
    return subject


def _ask(scenario: str, bench: Bench, subject: Subject) -> dict[str, Any]:
    return BY_ID[scenario].ask(bench, subject)


def _volumes(bench: Bench, subject: Subject) -> set[str]:
    return {disk["volume"] for disk in seen_by_driver(bench, subject)["disks"] if disk["volume"]}


@pytest.mark.clause("STO-1")
def test_a_volume_outlives_its_instance(bench: Bench) -> None:
    """Destroy leaves an attached volume, which another instance can then use."""
    require(bench, [Capability.VOLUMES, Capability.NEW_VOLUMES])
    first, second = _made(bench), _made(bench)
    name = first.stored("volume")
    bench.succeed("attach_volume", _ask("attach_volume-new", bench, first))
    bench.succeed("destroy", {"instance": first.instance})
    bench.succeed("attach_volume", {"instance": second.instance, "volume": {"kind": "stored", "volume": name}})
    assert name in _volumes(bench, second)
    bench.succeed("detach_volume", {"instance": second.instance, "volume": name, "delete": True})


@pytest.mark.clause("STO-2", "ERR-3")
def test_a_volume_in_use_by_another_instance_is_a_conflict(bench: Bench) -> None:
    """Two machines that write to one disk destroy it: conflict, and nothing changes."""
    require(bench, [Capability.VOLUMES, Capability.NEW_VOLUMES])
    first, second = _made(bench), _made(bench)
    name = first.stored("volume")
    bench.succeed("attach_volume", _ask("attach_volume-new", bench, first))
    before = bench.settle(second)
    run = bench.do("attach_volume", {"instance": second.instance, "volume": {"kind": "stored", "volume": name}})
    assert run.code == "conflict", run.outcome
    assert bench.settle(second) == before
    bench.succeed("detach_volume", {"instance": first.instance, "volume": name, "delete": True})


@pytest.mark.clause("STO-3", "ERR-3")
def test_a_new_volume_does_not_take_a_name_that_is_taken(bench: Bench) -> None:
    """already_exists for another operation's volume of the name."""
    require(bench, [Capability.VOLUMES, Capability.NEW_VOLUMES])
    first, second = _made(bench), _made(bench)
    request = _ask("attach_volume-new", bench, first)
    bench.succeed("attach_volume", request)
    expect_refusal(bench.do("attach_volume", request | {"instance": second.instance}, bare=True), "already_exists")
    bench.succeed("detach_volume", {"instance": first.instance, "volume": first.stored("volume"), "delete": True})


@pytest.mark.clause("STO-4", "ERR-3")
def test_a_volume_does_not_get_smaller(bench: Bench) -> None:
    """invalid_request, and the volume keeps its size."""
    require(bench, [Capability.VOLUMES, Capability.NEW_VOLUMES, Capability.EXTEND_VOLUME])
    subject = _made(bench)
    bench.succeed("attach_volume", _ask("attach_volume-new", bench, subject))
    before = bench.settle(subject)
    request = {"instance": subject.instance, "volume": subject.stored("volume"), "size_bytes": 1 << 20}
    expect_refusal(bench.do("extend_volume", request, bare=True), "invalid_request")
    assert bench.settle(subject) == before
    bench.succeed("detach_volume", {"instance": subject.instance, "volume": subject.stored("volume"), "delete": True})


@pytest.mark.clause("STO-4", "ERR-4")
def test_a_volume_that_is_not_attached_cannot_be_extended(bench: Bench) -> None:
    """not_found."""
    require(bench, [Capability.VOLUMES, Capability.EXTEND_VOLUME])
    subject = _made(bench)
    request = {"instance": subject.instance, "volume": subject.stored("volume"), "size_bytes": 1 << 30}
    expect_refusal(bench.do("extend_volume", request, bare=True), "not_found")


@pytest.mark.clause("CON-5")
@pytest.mark.parametrize("what", ["volume", "interface"])
def test_detaching_what_is_not_there_succeeds(bench: Bench, what: str) -> None:
    """The end that was asked for is there already; nothing changes."""
    require(bench, [Capability.VOLUMES if what == "volume" else Capability.HOT_INTERFACES])
    subject = _made(bench)
    before = bench.settle(subject)
    request = {"instance": subject.instance, "volume": subject.stored("volume"), "mac": mac_of(subject)}
    bench.succeed(f"detach_{what}", {"instance": request["instance"], _KEY[what]: request[_KEY[what]]})
    assert bench.settle(subject) == before


_KEY = {"volume": "volume", "interface": "mac"}


@pytest.mark.clause("NET-1")
def test_an_interface_that_is_there_stays_as_it_is(bench: Bench) -> None:
    """The same MAC on the same network by another operation: one interface, not two."""
    require(bench, [Capability.HOT_INTERFACES, Capability.INTERFACES])
    subject = _made(bench)
    request = {"instance": subject.instance, "interface": {"network": network(bench), "mac": mac_of(subject)}}
    first = bench.succeed("attach_interface", request)
    assert bench.succeed("attach_interface", request) == first
    assert [one["mac"] for one in seen_by_driver(bench, subject)["interfaces"]] == [mac_of(subject)]


@pytest.mark.clause("NET-1")
def test_two_interfaces_without_a_given_mac_are_two(bench: Bench) -> None:
    """The MAC is derived from the operation: two operations, two interfaces."""
    require(bench, [Capability.HOT_INTERFACES, Capability.INTERFACES])
    subject = _made(bench)
    request = {"instance": subject.instance, "interface": {"network": network(bench)}}
    macs = {bench.succeed("attach_interface", request)["mac"] for _ in range(2)}
    assert len(macs) == 2  # noqa: PLR2004 (two operations)
    assert macs == {one["mac"] for one in seen_by_driver(bench, subject)["interfaces"]}


@pytest.mark.clause("SNP-1")
def test_snapshots_are_listed_oldest_first_with_their_parents(bench: Bench) -> None:
    """Two snapshots in a row: the second continues the first and is the current one."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    words = ["first", "second"]
    for word in words:
        request = {"instance": subject.instance, "name": word}
        bench.succeed("create_snapshot", request, operation=subject.id_of(word))
    listed = snapshots_of(bench, subject)
    first, second = (subject.id_of(word) for word in words)
    assert list(listed) == [first, second]
    assert listed[second]["parent"] == first
    assert [listed[one]["current"] for one in (first, second)] == [False, True]
    assert [listed[one]["name"] for one in (first, second)] == words


@pytest.mark.clause("SNP-3")
def test_deleting_a_snapshot_leaves_the_others(bench: Bench) -> None:
    """The first of two is deleted: the second stays, and can be reverted to."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    for word in ("first", "second"):
        bench.succeed("create_snapshot", {"instance": subject.instance, "name": word}, operation=subject.id_of(word))
    bench.succeed("delete_snapshot", {"instance": subject.instance, "snapshot": subject.id_of("first")})
    assert list(snapshots_of(bench, subject)) == [subject.id_of("second")]
    bench.succeed("revert_snapshot", {"instance": subject.instance, "snapshot": subject.id_of("second")})


@pytest.mark.clause("SNP-2", "ERR-4")
def test_reverting_to_what_is_not_there_is_not_found(bench: Bench) -> None:
    """not_found, and the instance stays as it is."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    before = bench.settle(subject)
    run = bench.do("revert_snapshot", {"instance": subject.instance, "snapshot": subject.operation}, bare=True)
    expect_refusal(run, "not_found")
    assert bench.settle(subject) == before


@pytest.mark.clause("SNP-2")
def test_a_snapshot_without_memory_brings_back_a_stopped_instance(bench: Bench) -> None:
    """Whatever it was before: it ends in the snapshot's power state."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    bench.succeed("create_snapshot", {"instance": subject.instance, "name": "off"}, operation=subject.id_of("off"))
    bench.succeed("power_on", {"instance": subject.instance})
    reverted = bench.succeed("revert_snapshot", {"instance": subject.instance, "snapshot": subject.id_of("off")})
    assert reverted["power_state"] == "stopped"


@pytest.mark.clause("SNP-1", "CON-1")
def test_snapshots_of_one_name_are_two(bench: Bench) -> None:
    """The name is for people; a snapshot is known by its operation."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    for word in ("one", "two"):
        bench.succeed("create_snapshot", {"instance": subject.instance, "name": "same"}, operation=subject.id_of(word))
    assert len(snapshots_of(bench, subject)) == 2  # noqa: PLR2004 (two operations)


@pytest.mark.clause("SNP-4")
def test_destroy_takes_the_snapshots_along(bench: Bench) -> None:
    """Nothing of an instance with snapshots is left."""
    require(bench, [Capability.SNAPSHOTS])
    subject = _made(bench)
    bench.succeed("create_snapshot", {"instance": subject.instance, "name": "kept"}, operation=subject.id_of("kept"))
    bench.succeed("destroy", {"instance": subject.instance})
    assert bench.observer.look(subject.instance) is None


@pytest.mark.clause("IMG-2")
def test_a_captured_template_can_be_booted(bench: Bench) -> None:
    """What capture_image made, create clones."""
    require(bench, [Capability.CAPTURE_TEMPLATE, Capability.BOOT_TEMPLATE])
    subject, clone = _made(bench), bench.subject()
    captured = bench.succeed("capture_image", _ask("capture_image-template", bench, subject))
    boot = {"kind": "template", "template": captured["template"]}
    made = bench.succeed("create", creation(start=False, boot=boot)(bench, clone))
    assert made["id"] == clone.instance


@pytest.mark.clause("IMG-2", "ERR-3")
def test_a_template_is_not_overwritten(bench: Bench) -> None:
    """already_exists for another operation's template of the name."""
    require(bench, [Capability.CAPTURE_TEMPLATE])
    subject = _made(bench)
    request = _ask("capture_image-template", bench, subject)
    bench.succeed("capture_image", request)
    expect_refusal(bench.do("capture_image", request, bare=True), "already_exists")


def _on(bench: Bench, subject: Subject) -> list[str]:
    found = []
    for node in bench.nodes:
        page = bench.succeed("list_instances", {"node": node, "limit": 1000})
        found += [node for one in page["instances"] if one["id"] == subject.instance]
    return found


@pytest.mark.clause("MIG-1")
@pytest.mark.parametrize("mode", ["live", "cold"])
def test_an_instance_is_on_one_node_whenever_a_migration_dies(bench: Bench, mode: str) -> None:
    """Killed before any changing call and recovered: on exactly one node, the one it was to go to."""
    require(bench, [Capability.LIVE_MIGRATION if mode == "live" else Capability.COLD_MIGRATION])
    guard = 1
    while True:
        subject = _made(bench, start=mode == "live")
        request = {"instance": subject.instance, "node": other_node(bench, subject), "mode": mode}
        run = bench.disturbed("migrate", request, subject.operation, Script(what=What.KILL_BEFORE, at=guard))
        bench.succeed("migrate", request, operation=subject.operation, attempt=2)
        assert _on(bench, subject) == [request["node"]]
        bench.discharge(subject)
        if not run.died:
            return
        guard += 1


@pytest.mark.clause("MIG-1", "CON-5")
def test_a_migration_to_where_it_is_changes_nothing(bench: Bench) -> None:
    """It is there already."""
    require(bench, [Capability.COLD_MIGRATION])
    subject = _made(bench)
    before = bench.settle(subject)
    bench.succeed("migrate", {"instance": subject.instance, "node": subject.node, "mode": "cold"})
    assert bench.settle(subject) == before


@pytest.mark.clause("MIG-2", "REQ-6")
def test_a_migration_to_no_node_is_not_found(bench: Bench) -> None:
    """not_found, and it stays where it is."""
    require(bench, [Capability.COLD_MIGRATION])
    subject = _made(bench)
    request = {"instance": subject.instance, "node": "no-such-node", "mode": "cold"}
    expect_refusal(bench.do("migrate", request, bare=True), "not_found", told="no-such-node")
    assert _on(bench, subject) == [subject.node]


# Nodes and adoption


@pytest.mark.clause("NOD-1", "NOD-2")
def test_a_node_in_maintenance_takes_no_new_instance(bench: Bench) -> None:
    """invalid_state for create; what runs there goes on; the node says so, and comes back."""
    require(bench, [Capability.NODE_MAINTENANCE])
    here = bench.subject(len(bench.nodes) - 1)
    _in_maintenance(bench, here.node, lambda: _try_to_create(bench, here))
    bench.succeed("create", STOPPED(bench, here))


def _try_to_create(bench: Bench, subject: Subject) -> None:
    expect_refusal(bench.do("create", STOPPED(bench, subject), bare=True), "invalid_state", told=subject.node)
    assert bench.observer.look(subject.instance) is None


def _in_maintenance(bench: Bench, node: str, act: Callable[[], None]) -> None:
    there = bench.subject(bench.nodes.index(node))
    bench.succeed("create", creation()(bench, there))
    told = bench.succeed("set_node_maintenance", {"node": node, "enabled": True})
    try:
        assert told["name"] == node
        assert told["maintenance"]
        assert not told["accepts_instances"]
        assert seen_by_driver(bench, there)["power_state"] == "running"
        # What the node has in use changes while others use it, too.
        listed = next(one for one in bench.succeed("list_nodes", {})["nodes"] if one["name"] == node)
        assert (listed["maintenance"], listed["accepts_instances"]) == (True, False)
        act()
    finally:
        back = bench.succeed("set_node_maintenance", {"node": node, "enabled": False})
    assert not back["maintenance"]


@pytest.mark.clause("NOD-1", "CON-2")
@pytest.mark.parametrize("what", [What.KILL_BEFORE, What.KILL_AFTER])
def test_a_killed_node_maintenance_is_finished_by_the_next_attempt(bench: Bench, what: What) -> None:
    """Killed around its changing call and recovered, the node is in maintenance; a repeat answers the same."""
    require(bench, [Capability.NODE_MAINTENANCE])
    node = bench.nodes[-1]
    request = {"node": node, "enabled": True}
    operation = Subject(node).operation
    try:
        bench.disturbed("set_node_maintenance", request, operation, Script(what=what, at=1))
        first = bench.succeed("set_node_maintenance", request, operation=operation, attempt=2)
        again = bench.succeed("set_node_maintenance", request, operation=operation, attempt=3)
        assert first["maintenance"]
        assert again["maintenance"]
    finally:
        bench.succeed("set_node_maintenance", {"node": node, "enabled": False})


@pytest.mark.clause("NOD-1", "REQ-6")
def test_maintenance_of_no_node_is_not_found(bench: Bench) -> None:
    """not_found that names it."""
    require(bench, [Capability.NODE_MAINTENANCE])
    run = bench.do("set_node_maintenance", {"node": "no-such-node", "enabled": True}, bare=True)
    expect_refusal(run, "not_found", told="no-such-node")


def _adopted(bench: Bench) -> tuple[Subject, dict[str, Any], dict[str, Any]]:
    require(bench, [Capability.ADOPT])
    foreign = bench.plant_foreign()
    seen = bench.succeed("get_instance", {"instance": foreign})
    subject = bench.adoptee(foreign, seen["node"])
    return subject, seen, {"instance": foreign, "name": subject.name, "node": seen["node"], "metadata": {"by": "kit"}}


@pytest.mark.clause("FOR-4")
def test_a_foreign_machine_can_be_adopted_as_it_runs(bench: Bench) -> None:
    """It becomes ours under the given name, runs on, and can be operated."""
    subject, seen, request = _adopted(bench)
    made = bench.succeed("adopt", request)
    assert made["owned"]
    assert made["name"] == subject.name
    assert made["metadata"] == {"by": "kit"}
    assert made["power_state"] == seen["power_state"]
    assert (made["vcpus"], made["memory_bytes"]) == (seen["vcpus"], seen["memory_bytes"])
    bench.succeed("power_off", {"instance": subject.instance})


@pytest.mark.clause("FOR-4", "CON-1", "CON-2")
def test_a_killed_adoption_is_finished_by_the_next_attempt(bench: Bench) -> None:
    """Killed at each changing call and recovered, it is adopted; a repeat answers the same."""
    guard = 1
    while True:
        subject, _, request = _adopted(bench)
        run = bench.disturbed("adopt", request, subject.operation, Script(what=What.KILL_BEFORE, at=guard))
        made = bench.succeed("adopt", request, operation=subject.operation, attempt=2)
        assert made["owned"]
        assert bench.succeed("adopt", request, operation=subject.operation, attempt=3) == made
        bench.discharge(subject)
        if not run.died:
            return
        guard += 1


@pytest.mark.clause("FOR-4", "ERR-4")
def test_adopting_what_is_not_there_is_not_found(bench: Bench, subject: Subject) -> None:
    """not_found."""
    require(bench, [Capability.ADOPT])
    request = {"instance": subject.instance, "name": subject.name, "node": subject.node}
    expect_refusal(bench.do("adopt", request, bare=True), "not_found")


# The guest


@pytest.mark.clause("GST-1", "ERR-2")
def test_a_password_is_set_or_its_lack_of_an_agent_is_said(bench: Bench, subject: Subject) -> None:
    """With an agent it succeeds, also repeated; without one it is invalid_state or not_supported, without the password."""
    require(bench, [Capability.ADMIN_PASSWORD])
    bench.succeed("create", creation(kind=bench.target.conformance.guest.agent_boot)(bench, subject))
    bench.wait_ready(subject)
    secret = "Conform-canary-7!"  # noqa: S105 (looked for in what the driver says)
    request = {"instance": subject.instance, "password": secret}
    run = bench.do("set_admin_password", request, operation=subject.operation)
    assert run.code in {"succeeded", "invalid_state", "not_supported"}, run.outcome
    bare = bench.do("set_admin_password", request, operation=subject.operation, attempt=2, bare=True)
    assert bare.done is not None
    assert secret not in f"{bare.done.error} {bare.done.detail} {run.outcome}"
    assert secret not in str(bench.observer.look(subject.instance)), "the password lies readable on the hypervisor"
