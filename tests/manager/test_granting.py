"""What is said in a worker's name counts only from a broker user that was granted this worker."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manager.world import CLUSTER, HeldResult, announcement, failed, question_of, report_of

from federation.contract.errors import AlreadyExists, InvalidRequest, NotFound
from federation.manager.door import AdmissionDoor
from federation.manager.granting import Speech, may_speak
from federation.protocol.admission import Departure, Heartbeat
from federation.protocol.records import WorkerGrant

USER = "worker.lab.w1"


def put(world, result, user):
    held = HeldResult(result, user_id=user)
    world.manager.results.on_result(held)
    world.until(lambda: held in world.bus.acknowledged)


def test_without_any_grant_everybody_is_trusted(world):
    operation = world.create()
    put(world, question_of(world.record(operation), "q1"), None)
    assert world.bus.answers[-1][1].verdict == "grant"
    assert world.manager.granting.dropped == {}


@pytest.mark.parametrize("user", [None, "worker.lab.w2", "somebody"])
def test_with_a_grant_others_are_dropped_without_an_answer_and_counted(world, user):
    operation = world.create()
    world.manager.granting.grant(CLUSTER, "w1", USER)
    world.manager.granting.grant(CLUSTER, "w2", "worker.lab.w2")
    put(world, question_of(world.record(operation), "q1"), user)
    put(world, report_of(world.record(operation), failed("invalid_state"), 1, "w1"), user)
    assert world.bus.answers == []
    assert world.record(operation).state == "queued"
    assert world.manager.figures()["not_granted"] == {"results": 2}
    put(world, question_of(world.record(operation), "q2"), USER)
    assert world.bus.answers[-1][1].verdict == "grant"


def test_a_revoked_grant_is_void_at_once_and_the_cluster_stays_closed(world):
    operation = world.create()
    granting = world.manager.granting
    granting.grant(CLUSTER, "w1", USER)
    assert [each.user for each in granting.revoke(CLUSTER, "w1")] == [USER]
    for user in (USER, "somebody", None):
        put(world, question_of(world.record(operation), "q1"), user)
    assert world.bus.answers == []
    assert granting.dropped == {"results": 3}
    with pytest.raises(NotFound):
        granting.revoke(CLUSTER, "w1")
    granting.grant(CLUSTER, "w1", USER)
    put(world, question_of(world.record(operation), "q2"), USER)
    assert world.bus.answers


def test_a_user_speaks_for_one_worker_only(world):
    granting = world.manager.granting
    granting.grant(CLUSTER, "w1", USER)
    granting.grant(CLUSTER, "w1", USER)
    with pytest.raises(AlreadyExists, match="speaks for worker 'w1'"):
        granting.grant(CLUSTER, "w2", USER)
    for cluster, worker, user, error in (
        ("nowhere", "w1", "u", NotFound), (CLUSTER, "w 1", "u", InvalidRequest), (CLUSTER, "w1", "u\n", InvalidRequest)
    ):  # fmt: skip
        with pytest.raises(error):
            granting.grant(cluster, worker, user)
    assert [(each.user, each.worker) for each in granting.grants(CLUSTER)] == [(USER, "w1")]


def test_nobody_joins_stays_or_leaves_in_anothers_name(world):
    world.manager.granting.grant(CLUSTER, "w1", USER)
    door = AdmissionDoor(world.manager)
    said = {
        "admit": announcement("w1"),
        "heartbeat": Heartbeat(worker="w1", cluster=CLUSTER, epoch=1, draining=False, load={}),
        "leave": Departure(worker="w1", cluster=CLUSTER, reason="a lie"),
    }
    for method, message in said.items():
        for user in ("worker.lab.w2", None):
            assert door.call(method, msgspec.to_builtins(message), user)["error"]["code"] == "invalid_request", method
    assert world.manager.granting.dropped == {"admission": 6}
    for method, message in said.items():
        assert door.call(method, msgspec.to_builtins(message), USER)["error"] is None, method


def test_a_worker_of_an_open_cluster_cannot_speak_of_a_worker_of_another(world):
    """The cluster that a message names decides who may send it, so it must be the worker's."""
    world.manager.estate.create_cluster("open", "simulated", 1)
    world.manager.granting.grant(CLUSTER, "w1", USER)
    admitting = world.manager.admitting
    assert not admitting.heartbeat(Heartbeat(worker="w1", cluster="open", epoch=1, draining=False, load={})).known
    with pytest.raises(NotFound):
        admitting.leave(Departure(worker="w1", cluster="open", reason="a lie"))
    (worker,) = admitting.workers()
    assert worker.state == "admitted"


def test_trusting_users_is_an_option_of_its_own(make_world):
    world = make_world(trust_users=True)
    world.furnish()
    operation = world.create()
    world.manager.granting.grant(CLUSTER, "w1", USER)
    put(world, question_of(world.record(operation), "q1"), "somebody")
    assert world.bus.answers[-1][1].verdict == "grant"


def test_a_removed_cluster_takes_its_grants_along(world):
    manager = world.manager
    manager.estate.create_cluster("short", "simulated", 1)
    manager.granting.grant("short", "w7", "worker.short.w7")
    manager.estate.remove_cluster("short")
    assert manager.granting.grants() == []


NAMES = st.sampled_from(["a", "b"])
GRANTS = st.lists(
    st.builds(
        WorkerGrant,
        user=NAMES,
        cluster=NAMES,
        worker=NAMES,
        granted_at=st.just(1.0),
        revoked_at=st.sampled_from([None, 2.0]),
    ),
    unique_by=lambda grant: grant.user,
)


@given(GRANTS, st.builds(Speech, user=NAMES | st.none(), cluster=NAMES, worker=NAMES))
def test_may_speak_who_is_granted_or_where_nothing_ever_was(grants, said):
    live = {(g.user, g.cluster, g.worker) for g in grants if g.revoked_at is None}
    untouched = said.cluster not in {g.cluster for g in grants} and said.user not in {g.user for g in grants}
    assert may_speak(said, grants) == (tuple(said) in live or untouched)
