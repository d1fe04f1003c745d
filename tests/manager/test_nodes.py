"""Operations ordered by a node go the whole way: submitted, ordered, parked, resolved, seen."""

from __future__ import annotations

import msgspec
import pytest
from manager.world import CLUSTER, GIB, announcement, failed, make_node

from federation.contract.capabilities import Capability, Limits
from federation.contract.errors import (
    DriverBug,
    InsufficientResources,
    InvalidRequest,
    InvalidState,
    NotFound,
    NotSupported,
    Parked,
)
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.manager.door import ManagerDoor
from federation.protocol.ordering_key import node_key, node_of, words_of
from federation.protocol.partition_map import partition_of
from federation.protocol.records import OperationState
from federation.testing.history import FindingKind, check
from federation.testing.store_history import history_of

KEY = node_key(CLUSTER, "n1")


def maintain(world, *, enabled=True, node="n1", **submission):
    arguments = {"node": node, "enabled": enabled}
    return world.submit("set_node_maintenance", arguments=arguments, **{"cluster": CLUSTER, **submission})


def node_outcome(name="n1", **changes):
    return Outcome(kind=OutcomeKind.SUCCEEDED, result=msgspec.to_builtins(make_node(name, **changes)))


def carry_out(world, operation, **changes):
    assert world.ask(operation).verdict == "grant"
    world.report(operation, node_outcome(**changes))


def facts(world):
    (record,) = world.manager.estate.nodes(CLUSTER)
    return record


def test_a_nodes_operations_are_ordered_by_cluster_and_name(world):
    first, second = maintain(world), maintain(world, enabled=False)
    assert (first.key, first.sequence, second.sequence) == ("node:lab/n1", 1, 2)
    assert first.partition == partition_of(KEY, 4)
    assert world.ask(second).verdict == "gap"
    carry_out(world, first, maintenance=True)
    assert world.ask(second).verdict == "grant"


def test_nodes_of_the_same_name_in_two_clusters_do_not_wait_for_one_another(world):
    world.manager.estate.create_cluster("other", "simulated", 4)
    world.manager.admitting.admit(announcement("w2", cluster="other"))
    world.bus.reply = {"result": {"nodes": [msgspec.to_builtins(make_node("n1"))]}}
    world.manager.estate.refresh_cluster("other")
    here, there = maintain(world), maintain(world, cluster="other")
    assert (here.key, there.key) == ("node:lab/n1", "node:other/n1")
    assert (here.sequence, there.sequence) == (1, 1)
    world.ask(here)
    world.report(here, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    assert world.ask(there, worker="w2").verdict == "grant"
    assert [n.parked_by for n in world.manager.estate.nodes()] == [here.id, None]


def test_a_nodes_operation_needs_its_cluster_and_a_node_that_is_there(world):
    with pytest.raises(InvalidRequest, match="cluster is missing"):
        maintain(world, cluster=None)
    with pytest.raises(NotFound, match="'n9' is not known in cluster 'lab'; known are: n1"):
        maintain(world, node="n9")
    assert world.manager.operating.operations() == []


def test_what_the_outcome_says_of_the_node_is_seen_at_once_and_placement_heeds_it(world):
    carry_out(world, maintain(world), maintenance=True)
    assert facts(world).facts["maintenance"] is True
    with pytest.raises(InsufficientResources, match="n1: is in maintenance"):
        world.create()
    carry_out(world, maintain(world, enabled=False))
    assert world.create().arguments["spec"]["node"] == "n1"


def park(world):
    operation, waiting = maintain(world), maintain(world, enabled=False)
    world.ask(operation)
    world.report(operation, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    return operation, waiting


def test_a_parked_node_takes_nothing_new_and_says_how_it_is_resolved(world):
    operation, waiting = park(world)
    assert facts(world).parked_by == operation.id
    assert world.ask(waiting).verdict == "parked"
    with pytest.raises(Parked, match="federation node resolve n1 --cluster lab --retry"):
        maintain(world)
    made = world.create()
    world.carry_out(made)
    assert world.manager.operating.counts()[CLUSTER]["parked"] == 1


@pytest.mark.parametrize(
    ("resolution", "word"), [("retry", "retried as"), ("accept", "accepted"), ("abandon", "abandoned")]
)
def test_a_parked_node_is_resolved_through_the_door(world, resolution, word):
    door = ManagerDoor(world.manager)
    operation, waiting = park(world)
    asked = {"node": "n1", "cluster": CLUSTER, "resolution": resolution}
    early = door.call("resolve", asked)["error"]
    assert early["code"] == InvalidState.code
    assert "node n1 of cluster lab was parked just now" in early["message"]
    world.clock.seconds += 7.0
    retried = door.call("resolve", asked)["result"]["value"]
    assert world.record(operation).resolution.startswith(word)
    assert world.record(waiting).outcome.code == "parked"
    assert facts(world).parked_by is None
    following = world.manager.operating.operation(retried["id"]) if retried else maintain(world)
    assert following.sequence == 3
    carry_out(world, following, maintenance=True)


def test_the_door_lists_a_nodes_operations_and_wants_its_cluster(world):
    operation = maintain(world)
    world.create()
    door = ManagerDoor(world.manager)
    listed = door.call("operations", {"node": "n1", "cluster": CLUSTER})["result"]["value"]
    assert [each["id"] for each in listed] == [operation.id]
    for method, more in (("operations", {}), ("resolve", {"resolution": "accept"})):
        error = door.call(method, {"node": "n1", **more})["error"]
        assert (error["code"], "cluster of node 'n1' is missing" in error["message"]) == ("invalid_request", True)
    both = {"node": "n1", "cluster": CLUSTER, "instance": "web-1", "resolution": "accept"}
    assert "either an instance or a node" in door.call("resolve", both)["error"]["message"]


def test_a_nodes_operation_is_cancelled_and_expires_like_any_other(world):
    first = maintain(world)
    assert world.manager.operating.cancel(first.id).outcome.code == "cancelled"
    late = maintain(world, deadline_seconds=0.05)
    world.until(lambda: world.record(late).state == "refused")
    assert world.record(late).outcome.code == "deadline_passed"


def test_a_nodes_operation_that_is_lost_is_found_by_the_history_checker(world):
    first, _ = maintain(world), maintain(world, enabled=False)
    carry_out(world, first, maintenance=True)
    found = check(history_of(world.manager, [])).of(FindingKind.LOST)
    assert [finding.key for finding in found] == [KEY]
    carry_out(world, world.manager.operating.operations(state=OperationState.QUEUED)[0])
    assert check(history_of(world.manager, [])).of(FindingKind.LOST) == ()


def test_what_a_node_lacks_is_not_asked_of_it(world):
    world.set_nodes(make_node("n1", lacks=frozenset({Capability.PAUSE, Capability.BOOT_TEMPLATE})), make_node("n2"))
    made = world.create()
    assert world.manager.estate.instance(made.key).node == "n2"
    world.set_nodes(make_node("n2", lacks=frozenset({Capability.PAUSE})))
    with pytest.raises(NotSupported, match="pause, which node 'n2' lacks"):
        world.change("pause", made.key)
    world.set_nodes(make_node("n2", lacks=frozenset({Capability.BOOT_TEMPLATE})))
    with pytest.raises(InsufficientResources, match="lacks boot_template"):
        world.create("web-2")


def test_what_all_workers_can_take_is_the_lowest_of_their_limits(world):
    world.manager.admitting.admit(announcement("w2", limits=Limits(max_vcpus=2)))
    world.manager.admitting.admit(announcement("w3", limits=Limits(max_vcpus=8, max_memory_bytes=GIB)))
    for flavour, told in (
        ({"vcpus": 3, "memory_bytes": GIB}, "at most 2"),
        ({"vcpus": 1, "memory_bytes": 2 * GIB}, "memory"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            world.create(spec={"flavour": flavour})
    assert world.create(spec={"flavour": {"vcpus": 2, "memory_bytes": GIB}}).sequence == 1


def test_adopting_writes_the_machine_down_and_forgets_it_when_it_fails(world):
    machine = "00000000-0000-4000-8000-000000000001"

    def adopt():
        arguments = {"instance": machine, "name": "old-1", "node": "n1"}
        return world.submit("adopt", arguments=arguments, cluster=CLUSTER)

    failing = adopt()
    assert world.manager.estate.instance("old-1").state == "building"
    world.ask(failing)
    world.report(failing, failed("not_found"))
    with pytest.raises(NotFound):
        world.manager.estate.instance("old-1")
    made = adopt()
    assert made.sequence == 2
    world.carry_out(made)
    record = world.manager.estate.instance("old-1")
    assert (record.state, record.memory_bytes) == ("running", GIB)


@pytest.mark.parametrize(("cluster", "name"), [("a", "n1"), ("a-b", "rack/1/n:2"), ("a", "node:b/c")])
def test_a_nodes_key_names_its_cluster_and_its_name(cluster, name):
    assert node_of(node_key(cluster, name)) == (cluster, name)
    assert words_of(node_key(cluster, name)) == f"node {name} of cluster {cluster}"


def test_an_instances_key_is_no_nodes():
    assert node_of("00000000-0000-4000-8000-000000000001") is None


def lists(*nodes, **more):
    return {"result": {"nodes": [msgspec.to_builtins(node) for node in nodes]}, **more}


@pytest.mark.parametrize(
    "lie",
    [
        {"error": {"code": "not_found", "message": "no", "detail": {"message": "mine", "self": "too"}}},
        lists(make_node("n1"), make_node("n1")),
        lists(make_node("n1", message="\x00")),
        {"result": {"nodes": 3}},
        {"neither": 1},
    ],
)
def test_a_cluster_whose_driver_lies_about_its_nodes_keeps_no_other_cluster_from_being_read(world, lie):
    world.manager.estate.create_cluster("a-liar", "simulated", 4)
    world.manager.admitting.admit(announcement("w2", cluster="a-liar"))
    honest = lists(make_node("n7"))
    world.bus.query = lambda cluster, *_, **__: honest if cluster == CLUSTER else lie
    world.manager.estate.refresh_nodes(lambda: False)
    assert [node.name for node in world.manager.estate.nodes(CLUSTER)] == ["n7"]


def test_a_node_that_is_listed_twice_is_a_bug_of_the_driver_and_changes_nothing(world):
    world.bus.reply = lists(make_node("n3"), make_node("n3"))
    with pytest.raises(DriverBug, match="'n3' twice"):
        world.manager.estate.refresh_cluster(CLUSTER)
    assert [node.name for node in world.manager.estate.nodes(CLUSTER)] == ["n1"]
