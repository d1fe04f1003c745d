"""Nodes that are gone are forgotten; store and hypervisor are compared."""

from __future__ import annotations

import msgspec
import pytest
from manager.world import CLUSTER, GIB, make_node

from federation.contract.errors import InvalidState, NotFound, Unavailable
from federation.protocol.admission import Departure
from federation.protocol.ordering_key import node_key


def inventory(*nodes):
    return {"result": {"nodes": [msgspec.to_builtins(node) for node in nodes], "next": None}}


def machines(*found):
    return {"result": {"instances": list(found), "next": None}}


def machine(identity, name="web-1", **changes):
    facts = {"id": identity, "name": name, "node": "n1", "power_state": "running", "vcpus": 1, "memory_bytes": GIB}
    return {**facts, "owned": True, **changes}


@pytest.fixture
def without_worker(world):
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="gone"))
    return world


def names(world):
    return [node.name for node in world.manager.estate.nodes(CLUSTER)]


def test_a_node_that_is_gone_is_forgotten_with_its_line_of_operations(without_worker):
    world = without_worker
    world.set_nodes(make_node("n1"), make_node("n2"))
    world.manager.estate.forget_node(CLUSTER, "n2")
    assert names(world) == ["n1"]
    with pytest.raises(NotFound, match="node 'n2' is not known"):
        world.manager.estate.forget_node(CLUSTER, "n2")
    with pytest.raises(NotFound, match="'mars' is not known"):
        world.manager.estate.forget_node("mars", "n1")


def test_a_node_with_instances_is_kept_and_they_are_named(without_worker):
    world = without_worker
    world.create("web-7")
    with pytest.raises(InvalidState, match="has instances \\(web-7\\)"):
        world.manager.estate.forget_node(CLUSTER, "n1")
    assert names(world) == ["n1"]


def test_a_node_with_unsettled_operations_is_kept(without_worker):
    world = without_worker
    world.submit("set_node_maintenance", cluster=CLUSTER, arguments={"node": "n1", "enabled": True})
    with pytest.raises(InvalidState, match="parked or has unsettled operations"):
        world.manager.estate.forget_node(CLUSTER, "n1")
    with world.store.reading() as transaction:
        assert transaction.keys([node_key(CLUSTER, "n1")])


def test_workers_that_live_are_asked_whether_the_node_is_still_there(world):
    with pytest.raises(Unavailable):
        world.manager.estate.forget_node(CLUSTER, "n1")
    world.bus.reply = inventory(make_node("n1", reachable=False))
    with pytest.raises(InvalidState, match="still reported by the workers"):
        world.manager.estate.forget_node(CLUSTER, "n1")
    world.bus.reply = inventory(make_node("n2"))
    world.manager.estate.forget_node(CLUSTER, "n1")
    assert names(world) == ["n2"]


def test_what_both_sides_have_alike_is_counted_and_every_difference_named(world):
    made = {name: world.create(name) for name in ("alike", "moved", "stopped", "grown", "gone", "busy")}
    for operation in made.values():
        world.carry_out(operation)
    world.change("pause", made["busy"].key)
    ids = {name: operation.key for name, operation in made.items()}
    world.bus.reply = machines(
        machine(ids["alike"], "alike"),
        machine(ids["moved"], "moved", node="n2"),
        machine(ids["stopped"], "stopped", power_state="stopped"),
        machine(ids["grown"], "grown", vcpus=4),
        machine(ids["busy"], "busy", power_state="paused"),
        machine("11111111-1111-1111-1111-111111111111", "new"),
        machine("22222222-2222-2222-2222-222222222222", "foreign", owned=False),
    )
    told = world.manager.comparing.compare(CLUSTER)
    assert (told.alike, told.busy) == (1, 1)
    assert {(each.kind, each.instance, each.stored, each.found) for each in told.differences} == {
        ("moved", ids["moved"], "n1", "n2"),
        ("state", ids["stopped"], "running", "stopped"),
        ("size", ids["grown"], f"1 vcpus, {GIB} bytes", f"4 vcpus, {GIB} bytes"),
        ("missing", ids["gone"], "running", ""),
        ("unknown", "11111111-1111-1111-1111-111111111111", "", "on n1"),
    }
    world.manager.comparing.compare(CLUSTER, write=True)
    again = world.manager.comparing.compare(CLUSTER)
    assert {each.kind for each in again.differences} == {"missing", "unknown"}
    assert world.manager.estate.instance(ids["grown"]).vcpus == 4
