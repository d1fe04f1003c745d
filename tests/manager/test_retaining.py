"""What is settled and old is forgotten, step by step, and nothing that anybody still needs."""

from __future__ import annotations

import pytest
from manager.world import CLUSTER, failed
from sqlalchemy import update

from federation.contract.errors import DriverBug
from federation.contract.outcomes import OutcomeKind
from federation.manager.operating import Resolution
from federation.protocol.records import AuditRecord
from federation.store.tables import KEYS, OPERATIONS

DAY = 86400.0


@pytest.fixture
def make(make_world, store_url):
    def making(**settings):
        world = make_world(url=store_url, housekeeping_every=3600.0, **settings)
        world.furnish()
        return world

    return making


def age(world, days, *operations):
    """Let these operations, or all, have happened so many days ago."""
    seconds = days * DAY
    with world.store.transaction() as transaction:
        statement = update(OPERATIONS).values(finished_at=OPERATIONS.c.finished_at - seconds)
        if operations:
            statement = statement.where(OPERATIONS.c.id.in_([o.id for o in operations]))
        transaction._execute(statement)
        transaction._execute(update(KEYS).values(moved_at=KEYS.c.moved_at - seconds))


def left(world):
    with world.store.reading() as transaction:
        return {o.id for o in transaction.operation_records(cluster=CLUSTER, limit=1000)}


def step(world):
    world.clock.seconds += 31.0
    return world.manager.retaining.step()


def done(world, *names):
    made = world.create(names[0])
    world.carry_out(made)
    return made


def test_settled_operations_go_after_their_days_and_unsettled_ones_stay(make):
    world = make(keep_days=10.0)
    old, young = done(world, "old"), done(world, "young")
    waiting = world.change("pause", old.key)
    age(world, 9.9)
    assert step(world) == 0
    age(world, 0.2, old)
    step(world)
    assert left(world) == {young.id, waiting.id}


def test_of_each_cluster_the_newest_are_kept_but_nothing_younger_than_a_day_goes(make):
    world = make(keep_operations=2)
    operations = [done(world, f"web-{number}") for number in range(5)]
    step(world)
    assert len(left(world)) == 5
    age(world, 1.1)
    step(world)
    assert left(world) == {o.id for o in operations[3:]}


def test_days_below_one_count_as_one_so_that_idempotency_keys_are_honoured_for_a_day(make):
    world = make(keep_days=0.01)
    made = world.create(idempotency_key="k")
    world.carry_out(made)
    age(world, 0.9)
    step(world)
    assert world.create(idempotency_key="k").id == made.id


def test_what_parks_an_instance_stays_until_it_is_resolved(make):
    world = make(keep_days=1.0)
    made = world.create()
    world.ask(made)
    world.report(made, failed(DriverBug.code, OutcomeKind.UNKNOWN))
    age(world, 100)
    step(world)
    assert left(world) == {made.id}
    world.clock.seconds += 7.0
    retried = world.manager.operating.resolve(made.key, Resolution.RETRY)
    step(world)
    assert left(world) == {retried.id}


def test_a_key_goes_with_the_last_of_its_instance_and_begins_anew_if_it_comes_back(make):
    world = make(keep_days=1.0)
    made = done(world, "web")
    gone = world.change("destroy", made.key)
    world.ask(gone)
    world.report(gone, type(failed("x"))(kind=OutcomeKind.SUCCEEDED, result={}))
    age(world, 2)
    assert step(world) > 0
    with world.store.reading() as transaction:
        assert transaction.keys([made.key]) == {}
    again = world.submit(
        "create",
        cluster=CLUSTER,
        arguments={
            "instance": made.key,
            "spec": {
                "name": "web",
                "flavour": {"vcpus": 1, "memory_bytes": 1 << 30},
                "boot": {"kind": "template", "template": "debian"},
            },
        },
    )
    assert again.sequence == 1
    world.carry_out(again)


def test_the_key_of_an_instance_that_lives_keeps_its_position_when_all_its_operations_have_gone(make):
    world = make(keep_days=1.0)
    made = done(world, "web")
    age(world, 2)
    step(world)
    assert left(world) == set()
    later = world.change("pause", made.key)
    assert later.sequence == 2
    assert world.ask(later).verdict == "grant"


def test_one_step_removes_at_most_a_batch_and_the_next_follows_at_once(make):
    world = make(keep_days=1.0, retention_batch=3)
    for number in range(5):
        done(world, f"web-{number}")
    age(world, 2)
    step(world)
    assert len(left(world)) == 2
    world.manager.retaining.step()
    assert left(world) == set()
    world.manager.retaining.step()
    assert world.manager.retaining.step() == 0


def test_without_options_nothing_is_ever_forgotten(make):
    world = make()
    made = done(world, "web")
    age(world, 10_000)
    assert step(world) == 0
    assert left(world) == {made.id}


def test_the_audit_log_has_days_of_its_own(make):
    world = make(audit_days=5.0)
    now = world.clock.wall()
    with world.store.transaction() as transaction:
        for number, days in enumerate((6, 4)):
            record = AuditRecord(id=f"{number}", at=now - days * DAY, actor="a", action="x", result="accepted")
            transaction.add_audit(record)
    assert step(world) == 1
    assert [r.id for r in world.manager.auditing.records()] == ["1"]
