"""Who asked for what: every change leaves a record, and none tells a secret."""

from __future__ import annotations

import json

import pytest
from manager.world import CLUSTER, ManualClock

from federation.manager.auditing import Asker, Auditing
from federation.manager.door import _CHANGING, ManagerDoor
from federation.store.audit_rows import AuditRows

ASKED = {"by": "token ops", "request": "r-1"}


@pytest.fixture
def door(world):
    return ManagerDoor(world.manager)


class Standing(ManualClock):
    """A clock on which no second passes."""

    def wall(self):
        return 1_800_000_000.0


def records(world, **filters):
    return world.manager.auditing.records(**filters)


def ask(door, method, asked=ASKED, **arguments):
    return door.call(method, {**arguments, "asked": asked})


def test_an_accepted_operation_is_recorded_with_its_id_and_nothing_of_its_arguments(world, door):
    spec = {
        "name": "web-1",
        "flavour": {"vcpus": 1, "memory_bytes": 1 << 30},
        "boot": {"kind": "template", "template": "debian"},
        "metadata": {"note": "hunter2"},
    }
    reply = ask(door, "submit", name="create", cluster=CLUSTER, arguments={"spec": spec})
    assert reply["error"] is None, reply
    made = reply["result"]["value"]
    (record,) = records(world)
    assert (record.actor, record.request, record.action, record.result) == ("token ops", "r-1", "create", "accepted")
    assert (record.cluster, record.subject, record.operation) == (CLUSTER, made["key"], made["id"])
    assert "hunter2" not in json.dumps([str(each) for each in records(world)])


def test_a_refused_request_is_recorded_with_the_code_of_the_refusal(world, door):
    ask(door, "submit", name="pause", instance="nobody", arguments={})
    ask(door, "create_cluster", cluster="No Name", driver="simulated")
    assert [(r.action, r.subject or r.cluster, r.result) for r in records(world)] == [
        ("create_cluster", "No Name", "invalid_request"),
        ("pause", "nobody", "not_found"),
    ]


def test_what_the_manager_itself_changes_is_recorded_and_reads_are_not(world, door):
    ask(door, "clusters")
    ask(door, "counts")
    ask(door, "drain_worker", worker="w1")
    ask(door, "repartition", cluster=CLUSTER, partitions=8)
    ask(door, "take_back_repartition", asked={"by": "user root"}, cluster=CLUSTER)
    assert [(r.action, r.actor) for r in records(world)] == [
        ("take_back_repartition", "user root"),
        ("repartition", "token ops"),
        ("drain_worker", "token ops"),
    ]
    assert [r.action for r in records(world, actor="user root")] == ["take_back_repartition"]
    assert [r.action for r in records(world, cluster=CLUSTER, action="repartition")] == ["repartition"]
    newest = records(world, limit=1)[0]
    assert [r.action for r in records(world, before=newest.id)] == ["repartition", "drain_worker"]


def test_who_opened_a_console_is_recorded_and_other_reads_are_not(world, door):
    made = world.create()
    world.carry_out(made)
    ask(door, "read", name="get_console", instance=made.key, arguments={"kind": "vnc"})
    ask(door, "read", name="get_instance", instance=made.key)
    (record,) = records(world)
    assert (record.action, record.subject) == ("get_console", made.key)


def test_a_door_that_is_told_of_nobody_says_so_and_an_older_command_line_is_named_by_what_it_says(world, door):
    door.call("drain_worker", {"worker": "w1"})
    door.call("resolve", {"instance": "nobody", "resolution": "retry", "requested_by": "old cli"})
    ask(door, "drain_worker", asked={"by": "", "more": 1}, worker="w1")
    assert [r.actor for r in records(world)] == ["unnamed", "old cli", "unnamed"]


def test_a_flood_of_refusals_does_not_fill_the_store(world):
    auditing = Auditing(world.store, Standing())
    for _ in range(300):
        auditing.changed(Asker(by="somebody"), "drain_worker", {"worker": "nobody"}, "not_found")
    auditing.changed(Asker(by="somebody"), "drain_worker", {"worker": "w1"})
    assert (len(records(world, limit=1000)), auditing.unwritten) == (51, 250)


def test_every_method_of_the_door_either_only_reads_or_is_recorded(door):
    reads = {
        "operation", "operations", "watched", "instance", "instances", "read", "clusters", "epoch", "nodes", "workers",
        "worker_grants", "tokens", "counts", "figures", "counters", "audit", "refresh_cluster",
    }  # fmt: skip
    assert set(door._methods) == reads | _CHANGING


def test_a_name_that_no_database_keeps_or_that_looks_like_two_records_is_written_down_all_the_same(world):
    door = ManagerDoor(world.manager)
    name = "x\x00y\n2026-01-01 somebody-else create_cluster accepted\u2028\ud800" + "z" * 300
    reply = door.call("create_cluster", {"cluster": name, "driver": "simulated", "asked": {"by": "me\x00\n"}})
    assert reply["error"]["code"] == "invalid_request"
    (record,) = world.manager.auditing.records(action="create_cluster", limit=1)
    assert record.actor == "me??"
    assert record.cluster.startswith("x?y?2026-01-01 somebody-else")
    assert len(record.cluster) == 200
    assert not set(record.cluster) & set("\x00\n\u2028\ud800")


def test_what_was_carried_out_is_answered_whatever_becomes_of_its_record(world, monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError

    monkeypatch.setattr(AuditRows, "add_audit", refuse)
    reply = ManagerDoor(world.manager).call("create_cluster", {"cluster": "kept", "driver": "simulated"})
    assert reply["error"] is None
    assert "not in the audit log" in caplog.text
