"""Callers and clusters of different releases: adapted without loss, or refused by name; nothing is dropped."""

from __future__ import annotations

import logging

import pytest
from manager.revisions import NEW, NEWEST, OLD, two_releases
from manager.world import CLUSTER, announcement

from federation.contract.capabilities import Capability
from federation.contract.errors import ContractMismatch, DriverBug, InvalidRequest
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.contract.since import VALUES_SINCE, value_of
from federation.manager.counters import Caller
from federation.manager.door import AdmissionDoor, ManagerDoor
from federation.manager.operating import Resolution
from federation.protocol.admission import Departure


@pytest.fixture
def between(make_world):
    """A world of three releases whose only worker serves the given ones."""

    def make(lowest, highest):
        world = make_world(revisions=two_releases(), releases=(OLD, NEWEST))
        world.furnish()
        world.manager.admitting.admit(announcement(releases=(str(lowest), str(highest))))
        return world

    return make


def succeeded(**result):
    return Outcome(kind=OutcomeKind.SUCCEEDED, result=result)


def relabel(world, revision, made=None, **arguments):
    made = made or world.create()
    return world.submit("relabel", revision=revision, arguments={"instance": made.key, **arguments})


def last_sent(world, operation):
    world.until(lambda: world.bus.published and world.bus.published[-1].operation == operation.id)
    return world.bus.published[-1]


def settle(world, made, operation, outcome):
    world.carry_out(made)
    world.ask(operation)
    world.report(operation, outcome)
    return world.record(operation).outcome


def test_a_caller_of_the_first_revision_is_served_by_workers_that_know_only_the_second(between):
    world = between(NEWEST, NEWEST)
    made = world.create()
    operation = relabel(world, 1, made, label="red")
    sent = last_sent(world, operation)
    assert (sent.revision, sent.release) == (2, "1.2")
    assert sent.arguments == {"instance": made.key, "title": "red", "colour": ""}
    assert (operation.revision, operation.asked_revision) == (2, 1)
    assert settle(world, made, operation, succeeded(shown="red")).result == {"text": "red"}


def test_a_caller_of_the_second_revision_is_served_by_workers_that_know_only_the_first(between):
    world = between(OLD, OLD)
    made = world.create()
    operation = relabel(world, 2, made, title="red")
    sent = last_sent(world, operation)
    assert (sent.revision, sent.release, sent.arguments) == (1, "1.0", {"instance": made.key, "label": "red"})
    assert settle(world, made, operation, succeeded(text="red")).result == {"shown": "red"}


def test_the_same_revision_goes_out_as_it_is_where_the_cluster_has_it(between):
    world = between(OLD, NEW)
    made = world.create()
    for revision, arguments in ((1, {"label": "a"}), (2, {"title": "a", "colour": "blue"})):
        operation = relabel(world, revision, made, **arguments)
        assert (operation.revision, operation.asked_revision) == (revision, None)
        assert operation.arguments == {"instance": made.key, **arguments}


def test_what_the_clusters_revision_cannot_say_is_refused_with_the_fields_name(between):
    world = between(OLD, OLD)
    made = world.create()
    with pytest.raises(InvalidRequest, match="cannot carry colour") as refusal:
        relabel(world, 2, made, title="red", colour="blue")
    assert refusal.value.detail["field"] == "colour"
    assert [o.name for o in world.manager.operating.operations()] == ["create"]


def test_a_result_that_is_none_of_the_revision_that_was_sent_is_a_driver_bug(between):
    world = between(NEWEST, NEWEST)
    made = world.create()
    operation = relabel(world, 1, made, label="red")
    outcome = settle(world, made, operation, succeeded(text="of the wrong revision"))
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "driver_bug")
    assert world.manager.figures()["driver_bugs"] == {"simulated": 1}


def test_a_query_is_adapted_both_ways_too(between):
    world = between(NEWEST, NEWEST)
    world.bus.reply = {"result": {"shown": "red"}}
    made = world.create()
    answer = world.manager.reading.query(CLUSTER, "read_label", {"instance": made.key, "label": "x"}, revision=1)
    assert answer == {"text": "red"}
    assert world.bus.asked[-1] == ("read_label", 2, {"instance": made.key, "title": "x", "colour": ""})


def test_a_newer_field_that_says_something_is_refused_by_its_name_and_the_clusters_release(between):
    world = between(OLD, OLD)
    made = world.create()
    with pytest.raises(
        ContractMismatch, match=r"gently came with contract release 1\.1; the cluster speaks 1\.0"
    ) as no:
        world.change("pause", made.key, gently=True)
    assert no.value.detail == {"field": "gently", "since": "1.1", "cluster": "1.0"}
    assert [o.name for o in world.manager.operating.operations()] == ["create"]


def test_a_newer_field_with_its_default_does_not_reach_workers_that_would_not_know_it(between):
    world = between(OLD, OLD)
    made = world.create()
    assert last_sent(world, world.change("pause", made.key)).arguments == {"instance": made.key}


def test_a_newer_field_reaches_workers_of_its_release(between):
    world = between(OLD, NEW)
    made = world.create()
    paused = world.change("pause", made.key, gently=True)
    assert last_sent(world, paused).arguments == {"instance": made.key, "gently": True}


def test_a_capability_newer_than_the_cluster_is_refused_by_its_name(between, monkeypatch):
    monkeypatch.setitem(VALUES_SINCE, value_of(Capability.PAUSE), "1.1")
    world = between(OLD, OLD)
    made = world.create()
    with pytest.raises(ContractMismatch, match=r"capability pause, which came with contract release 1\.1"):
        world.change("pause", made.key)


def test_an_operation_newer_than_the_cluster_without_an_adapter_is_refused(between):
    world = between(OLD, OLD)
    world.manager.submitting._adapting.revisions._adapters = ()
    with pytest.raises(ContractMismatch, match=r"relabel revision 2 came with contract release 1\.1.*speaks 1\.0"):
        relabel(world, 2, title="red")


def test_use_of_a_deprecated_revision_is_counted_by_caller_and_logged_once(between, caplog):
    world = between(OLD, NEW)
    made = world.create()
    world.carry_out(made)
    door = ManagerDoor(world.manager)
    with caplog.at_level(logging.WARNING):
        for caller in ("command", "command", "bridge"):
            request = {"name": "relabel", "instance": made.key, "arguments": {"label": "a"}, "caller": caller}
            assert door.call("submit", request)["error"] is None
        relabel(world, 2, made, title="a")
    figures = door.call("counters", {})["result"]["value"]
    assert figures["deprecated"] == {"relabel.1.command": 2, "relabel.1.bridge": 1}
    told = [record.getMessage() for record in caplog.records if "deprecated" in record.getMessage()]
    assert len(told) == 1
    assert "use relabel revision 2, release 1.2 may drop the old one" in told[0]


def test_a_retry_is_adapted_to_what_the_cluster_speaks_by_then(between):
    world = between(OLD, OLD)
    made = world.create()
    operation = relabel(world, 2, made, title="red")
    settle(world, made, operation, Outcome(kind=OutcomeKind.UNKNOWN, code="outcome_unknown", message="?"))
    world.manager.admitting.admit(announcement(releases=(str(OLD), str(NEWEST))))
    world.clock.seconds += 7.0
    retried = world.manager.operating.resolve(made.key, Resolution.RETRY)
    sent = last_sent(world, retried)
    assert (sent.revision, sent.release, sent.arguments["title"]) == (2, "1.2", "red")
    assert retried.asked_revision is None
    assert world.manager.figures()["deprecated"] == {}, "nobody but callers is counted"


def test_fields_of_a_newer_workers_result_are_kept(world):
    made = world.create()
    world.ask(made)
    result = {"id": made.key, "name": "web-1", "node": "n1", "power_state": "running", "vcpus": 1, "memory_bytes": 1}
    world.report(made, succeeded(**result, temperature=41))
    assert world.record(made).outcome.result["temperature"] == 41
    assert world.manager.estate.instance(made.key).observed["temperature"] == 41


def test_a_worker_that_declares_flags_of_a_newer_release_is_admitted_without_them(world):
    described = {
        "driver": "simulated", "driver_version": "2", "releases": ["1.0", "1.9"],
        "capabilities": {"flags": ["pause", "teleport"], "limits": {"max_vcpus": 2, "max_wishes": 3}},
    }  # fmt: skip
    announced = {
        "worker": "w9",
        "cluster": CLUSTER,
        "host": "h",
        "pid": 1,
        "max_operations": 1,
        "description": described,
    }
    reply = AdmissionDoor(world.manager).call("admit", announced)
    assert reply["error"] is None
    (record,) = (w for w in world.manager.admitting.workers(CLUSTER) if w.id == "w9")
    assert record.capabilities["flags"] == ["pause"]


def test_an_outcome_of_an_operation_that_only_a_newer_manager_knows_is_applied(between):
    world = between(OLD, NEW)
    made = world.create()
    operation = relabel(world, 2, made, title="x")
    del world.manager.submitting._adapting.revisions._by_key["relabel", 2]
    assert settle(world, made, operation, succeeded(shown="x")).kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"result": 5}, "something else"),
        ({"error": {"code": "on_fire", "message": "hot"}}, "on_fire"),
        ({"error": {"code": "image_rejected", "message": "no"}}, "does not declare"),
        ({"result": {"nodes": [{"name": "n1"}]}}, "no NodeList"),
    ],
)
def test_a_query_that_is_answered_with_what_the_contract_does_not_say_is_a_counted_driver_bug(world, reply, told):
    world.bus.reply = reply
    with pytest.raises(DriverBug, match=told):
        world.manager.reading.query(CLUSTER, "list_nodes", {})
    assert world.manager.figures()["driver_bugs"] == {"simulated": 1}


@pytest.mark.parametrize("code", ["on_fire", "image_rejected"])
def test_an_outcome_whose_code_is_unknown_or_undeclared_is_a_counted_driver_bug(world, code):
    made = world.create()
    world.carry_out(made)
    paused = world.change("pause", made.key)
    world.ask(paused)
    world.report(paused, Outcome(kind=OutcomeKind.FAILED, code=code, message="m"))
    assert world.record(paused).outcome.code == "driver_bug"
    assert world.manager.figures()["driver_bugs"] == {"simulated": 1}


def test_callers_are_of_a_closed_list(world):
    reply = ManagerDoor(world.manager).call("submit", {"name": "pause", "caller": "stranger"})
    assert reply["error"]["code"] == "invalid_request"
    assert {caller.value for caller in Caller} >= {"command", "api", "bridge"}


def test_the_pin_follows_the_last_old_worker_out(between):
    world = between(OLD, NEWEST)
    world.manager.admitting.admit(announcement("w2", releases=("1.0", "1.0")))
    assert world.manager.estate.clusters()[0].pin == "1.0"
    world.manager.admitting.leave(Departure(worker="w2", cluster=CLUSTER, reason="upgraded"))
    assert world.manager.estate.clusters()[0].pin == "1.2"
