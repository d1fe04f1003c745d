"""What is accepted, what is refused, and what is written of it."""

import pytest
from manager.world import CLUSTER, GIB, announcement, make_node

from federation.contract.capabilities import Capability
from federation.contract.errors import (
    AlreadyExists,
    InsufficientResources,
    InvalidRequest,
    NotFound,
    NotSupported,
    Overloaded,
)
from federation.store.sql_store import SqlTransaction


def test_operations_of_an_instance_get_sequences_without_holes(world):
    made = world.create()
    operations = [world.change("pause" if n % 2 else "unpause", made.key) for n in range(5)]
    assert [made.sequence, *(o.sequence for o in operations)] == [1, 2, 3, 4, 5, 6]


def test_an_unknown_cluster_is_told_which_are_known(world):
    made = world.create()
    with pytest.raises(NotFound, match=r"'nowhere'.*federation cluster list"):
        world.submit("create", arguments=made.arguments, cluster="nowhere")


def test_a_query_cannot_be_submitted(world):
    with pytest.raises(InvalidRequest, match="query"):
        world.submit("list_nodes", cluster=CLUSTER)


def test_a_name_is_used_once_in_a_cluster_and_nothing_is_left_of_the_second_try(world):
    world.create("web-1")
    with pytest.raises(AlreadyExists, match="web-1"):
        world.create("web-1")
    assert len(world.manager.estate.instances(CLUSTER, None, 10)) == 1
    assert len(world.manager.operating.operations()) == 1


def test_a_missing_capability_is_refused_before_anything_is_published(make_world):
    world = make_world()
    world.furnish(flags=frozenset(Capability) - {Capability.BOOT_TEMPLATE})
    with pytest.raises(NotSupported, match="boot_template"):
        world.create()
    assert world.bus.published == []
    assert world.manager.operating.operations() == []


def test_only_what_all_workers_can_do_is_accepted(world):
    world.manager.admitting.admit(announcement("w2", flags=frozenset(Capability) - {Capability.PAUSE}))
    made = world.create()
    with pytest.raises(NotSupported, match="pause"):
        world.change("pause", made.key)


def test_a_cluster_that_never_had_a_worker_says_how_to_start_one(make_world):
    world = make_world()
    world.manager.estate.create_cluster(CLUSTER, "simulated", 4)
    with pytest.raises(NotSupported, match="federation worker --driver simulated --cluster lab"):
        world.create()


def test_the_node_with_the_most_free_memory_is_chosen(world):
    world.set_nodes(make_node("n1", memory_bytes_used=60 * GIB), make_node("n2"), make_node("n3", reachable=False))
    made = world.create()
    assert world.manager.estate.instance(made.key).node == "n2"
    assert made.arguments["spec"]["node"] == "n2"


def test_what_was_given_away_counts_as_taken_before_the_hypervisor_knows(world):
    world.set_nodes(make_node("n1", memory_bytes_total=3 * GIB), make_node("n2", memory_bytes_total=2 * GIB))
    nodes = [world.manager.estate.instance(world.create(f"web-{n}").key).node for n in range(5)]
    assert sorted(nodes) == ["n1", "n1", "n1", "n2", "n2"]
    with pytest.raises(InsufficientResources, match="n1: 0 bytes of memory free; n2: 0 bytes"):
        world.create("web-6")


def test_a_node_that_was_asked_for_is_taken_or_refused_with_its_reason(world):
    world.set_nodes(make_node("n1"), make_node("n2", accepts_instances=False))
    with pytest.raises(NotFound, match="'n9'"):
        world.create(spec={"node": "n9"})
    with pytest.raises(InsufficientResources, match="n2: does not accept"):
        world.create(spec={"node": "n2"})


def test_the_same_idempotency_key_never_makes_two_operations(world):
    first = world.create(idempotency_key="once")
    again = world.create(idempotency_key="once")
    assert again.id == first.id
    assert len(world.manager.operating.operations()) == 1
    with pytest.raises(InvalidRequest, match="once"):
        world.submit("destroy", arguments={"instance": first.key}, idempotency_key="once")


def test_an_idempotency_key_that_was_used_for_another_instance_is_refused(world):
    first, second = world.create("web-1").key, world.create("web-2").key
    paused = world.submit("pause", arguments={"instance": first}, idempotency_key="once")
    assert world.submit("pause", arguments={"instance": first}, idempotency_key="once").id == paused.id
    with pytest.raises(InvalidRequest, match=f"'once' was used for pause of instance {first}"):
        world.submit("pause", arguments={"instance": second}, idempotency_key="once")
    assert len(world.manager.operating.operations()) == 3


def test_of_two_operations_with_one_key_that_meet_in_the_store_the_second_is_refused(world, monkeypatch):
    made = world.create()
    paused = world.submit("pause", arguments={"instance": made.key}, idempotency_key="once")
    monkeypatch.setattr(SqlTransaction, "accepted_before", lambda *_: None)  # it is not there yet when it is looked for
    monkeypatch.setattr(
        SqlTransaction, "_earlier", lambda self, _: self.operation(paused.id)
    )  # and is there when it is written
    with pytest.raises(InvalidRequest, match="'once' was used for pause"):
        world.submit("suspend", arguments={"instance": made.key}, idempotency_key="once")
    monkeypatch.undo()
    assert world.change("unpause", made.key).sequence == 3


@pytest.mark.parametrize("seconds", [0, -1, 1e9, float("nan")])
def test_a_deadline_is_a_sensible_duration(world, seconds):
    with pytest.raises(InvalidRequest, match="deadline_seconds"):
        world.create(deadline_seconds=seconds)


def test_user_data_stays_out_of_the_record_of_the_instance(world):
    made = world.create(spec={"guest": {"user_data": "password: hunter2"}})
    record = world.manager.estate.instance(made.key)
    assert "hunter2" not in str(record)
    assert made.arguments["spec"]["guest"]["user_data"] == "password: hunter2"


def test_what_the_broker_does_not_take_is_bounded(make_world):
    world = make_world(max_backlog=2)
    world.bus.verdict = None
    world.furnish()
    world.create("a")
    world.create("b")
    world.until(lambda: world.manager.publisher.backlog == 2)
    with pytest.raises(Overloaded, match="limit is 2"):
        world.create("c")


def test_a_resize_beyond_the_node_is_refused_with_the_numbers(world):
    world.set_nodes(make_node("n1", memory_bytes_total=4 * GIB))
    made = world.create()
    with pytest.raises(InsufficientResources, match="n1 has"):
        world.change("resize", made.key, flavour={"vcpus": 1, "memory_bytes": 8 * GIB})


def test_a_request_that_no_message_could_carry_is_refused_and_not_accepted(world):
    keys = [f"ssh-ed25519 {'A' * 16_000} {number}" for number in range(64)]
    with pytest.raises(InvalidRequest, match="at most 524288 can be sent"):
        world.create(spec={"guest": {"ssh_keys": keys}})
    assert world.manager.operating.operations() == []
