"""Another number of partitions: everything settled, one lease, a new epoch (DESIGN §6.1)."""

from __future__ import annotations

import msgspec
import pytest
from manager.world import CLUSTER, announcement, failed, seen

from federation.contract.errors import DriverBug, InvalidRequest, InvalidState, NotFound, Overloaded
from federation.contract.outcomes import OutcomeKind
from federation.manager.operating import Resolution
from federation.manager.ports import Leftover
from federation.protocol.admission import Departure, Heartbeat
from federation.protocol.partition_map import partition_of
from federation.protocol.records import OldEpoch


@pytest.fixture
def world(make_world):
    """A manager whose own housekeeping waits for an hour: a test calls ``keep``."""
    world = make_world(housekeeping_every=3600.0)
    world.furnish()
    return world


@pytest.fixture
def epochs(world):
    return world.manager.epochs


def open_next(world, epochs):
    epochs.keep()
    world.clock.seconds += 7.0  # one lease and its margin
    epochs.keep()


def cluster_of(world):
    (cluster,) = world.manager.estate.clusters()
    return cluster


def test_an_idle_cluster_gets_its_new_partitions_one_lease_after_it_was_seen_idle(world, epochs):
    assert epochs.repartition(CLUSTER, 8).phase == "waiting"
    epochs.keep()
    world.clock.seconds += 6.9
    epochs.keep()
    assert cluster_of(world).epoch == 1
    world.clock.seconds += 0.1
    epochs.keep()
    cluster = cluster_of(world)
    assert (cluster.epoch, cluster.partitions, cluster.wanted_partitions) == (2, 8, None)
    assert (CLUSTER, 2, 8) in world.bus.declared
    assert world.bus.left == [(CLUSTER, 1, 4)]


def test_what_was_accepted_is_settled_first_and_nothing_new_is_accepted(world, epochs):
    made = world.create()
    epochs.repartition(CLUSTER, 8)
    with pytest.raises(Overloaded, match="8 partitions; until then it takes nothing new"):
        world.create("web-2")
    open_next(world, epochs)
    assert epochs.facts(CLUSTER).phase == "draining"
    world.carry_out(made)
    with pytest.raises(Overloaded):
        world.change("pause", made.key)
    open_next(world, epochs)
    later = world.change("pause", made.key)
    assert later.partition == partition_of(made.key, 8)
    world.until(lambda: any(c.operation == later.id for c in world.bus.published))
    command = next(c for c in world.bus.published if c.operation == later.id)
    assert (command.epoch, command.sequence) == (2, 2)


def test_a_repeated_request_is_still_answered_by_what_it_made(world, epochs):
    made = world.create(idempotency_key="k")
    epochs.repartition(CLUSTER, 8)
    assert world.create(idempotency_key="k").id == made.id


def test_an_operation_that_came_in_the_quiet_time_begins_the_wait_anew(world, epochs):
    made = world.create()
    world.ask(made)
    world.report(made, failed("outcome_unknown", OutcomeKind.UNKNOWN))
    epochs.repartition(CLUSTER, 8)
    epochs.keep()
    world.clock.seconds += 7.5
    retried = world.manager.operating.resolve(made.key, Resolution.RETRY)
    world.carry_out(retried)
    epochs.keep()
    assert cluster_of(world).epoch == 1
    world.clock.seconds += 7.0
    epochs.keep()
    assert cluster_of(world).epoch == 2


def test_it_is_resumed_by_asking_again_and_another_number_is_refused_until_it_is_taken_back(world, epochs):
    world.create()
    first = epochs.repartition(CLUSTER, 8)
    assert epochs.repartition(CLUSTER, 8) == first
    with pytest.raises(InvalidState, match="on its way to 8 partitions"):
        epochs.repartition(CLUSTER, 16)
    assert epochs.take_back(CLUSTER).wanted_partitions is None
    assert world.create("web-2").partition < 4
    assert epochs.repartition(CLUSTER, 16).wanted_partitions == 16


def test_nothing_happens_where_it_has_that_number_already(world, epochs):
    assert epochs.repartition(CLUSTER, 4).phase == "steady"
    with pytest.raises(InvalidState, match="no change is under way"):
        epochs.take_back(CLUSTER)


@pytest.mark.parametrize("partitions", [0, 1025])
def test_a_number_that_cannot_be_is_refused_by_its_name(epochs, partitions):
    with pytest.raises(InvalidRequest, match=f"partitions is {partitions}"):
        epochs.repartition(CLUSTER, partitions)


def test_an_unknown_cluster_is_refused(epochs):
    for ask in (epochs.take_back, epochs.facts, epochs.republish, lambda name: epochs.repartition(name, 2)):
        with pytest.raises(NotFound, match="'mars' is not known"):
            ask("mars")


def test_a_parked_instance_with_operations_behind_it_refuses_the_change_by_name(world, epochs):
    made = world.create()
    world.ask(made)
    world.change("pause", made.key)
    world.report(made, failed(DriverBug.code, OutcomeKind.UNKNOWN))
    with pytest.raises(InvalidState, match=f"{made.key} parked with operations behind"):
        epochs.repartition(CLUSTER, 8)
    world.clock.seconds += 7.0
    world.manager.operating.resolve(made.key, Resolution.ABANDON)
    assert epochs.repartition(CLUSTER, 8).phase == "waiting"


def test_a_parked_instance_with_nothing_behind_it_goes_along_and_is_retried_in_the_new_epoch(world, epochs):
    made = world.create()
    world.ask(made)
    world.report(made, failed(DriverBug.code, OutcomeKind.UNKNOWN))
    epochs.repartition(CLUSTER, 8)
    open_next(world, epochs)
    retried = world.manager.operating.resolve(made.key, Resolution.RETRY)
    assert retried.partition == partition_of(made.key, 8)
    world.carry_out(retried)


def test_workers_hear_of_the_new_epoch_by_their_heartbeat_and_the_old_queues_go_when_nobody_consumes_them(
    world, epochs
):
    epochs.repartition(CLUSTER, 8)
    world.bus.leftovers = Leftover(messages=0, consumers=4)
    open_next(world, epochs)
    epochs.keep()
    assert epochs.facts(CLUSTER).behind == ("w1",)
    assert epochs.facts(CLUSTER).phase == "moving"
    beat = Heartbeat(worker="w1", cluster=CLUSTER, epoch=1, draining=False, load={})
    assert world.manager.admitting.heartbeat(beat).epoch == 2
    assert world.bus.deleted == []
    admission = world.manager.admitting.admit(announcement())
    assert (admission.epoch, admission.partitions) == (2, 8)
    assert epochs.facts(CLUSTER).phase == "clearing"
    world.bus.leftovers = Leftover(0, 0)
    epochs.keep()
    assert world.bus.deleted == [(CLUSTER, 1, 4)]
    assert epochs.facts(CLUSTER).phase == "steady"


def test_copies_that_nobody_fetches_go_with_the_old_queues_half_a_minute_later(world, epochs):
    epochs.repartition(CLUSTER, 8)
    world.bus.leftovers = Leftover(messages=3, consumers=0)
    open_next(world, epochs)
    epochs.keep()
    assert world.bus.deleted == []
    with world.store.transaction() as transaction:
        (old,) = transaction.old_epochs()
        transaction.remove_old_epoch(old)
        transaction.add_old_epoch(msgspec.structs.replace(old, closed_at=old.closed_at - 31))
    epochs.keep()
    assert world.bus.deleted == [(CLUSTER, 1, 4)]


def test_queues_that_another_manager_declared_once_more_are_deleted_two_minutes_later(world, epochs):
    now = world.clock.wall()
    with world.store.transaction() as transaction:
        transaction.add_old_epoch(
            OldEpoch(cluster=CLUSTER, epoch=7, partitions=2, closed_at=now - 200, deleted_at=now - 119)
        )
    epochs.keep()
    assert world.bus.deleted == []
    with world.store.transaction() as transaction:
        (old,) = transaction.old_epochs()
        transaction.note_deleted(old, now - 121)
    epochs.keep()
    assert world.bus.deleted == [(CLUSTER, 7, 2)]
    with world.store.reading() as transaction:
        assert transaction.old_epochs() == []


def test_a_cluster_that_is_removed_takes_the_queues_of_its_old_epochs_along(world, epochs):
    epochs.repartition(CLUSTER, 8)
    world.bus.leftovers = Leftover(messages=1, consumers=0)
    open_next(world, epochs)
    world.manager.admitting.leave(Departure(worker="w1", cluster=CLUSTER, reason="done"))
    world.manager.estate.remove_cluster(CLUSTER)
    assert world.bus.retired == [(CLUSTER, 2, 8)]
    assert world.bus.deleted == [(CLUSTER, 1, 4)]


def test_another_manager_goes_on_where_one_ended(world, epochs):
    epochs.repartition(CLUSTER, 8)
    epochs.keep()
    world.clock.seconds += 7.0
    other = type(epochs)(world.store, world.bus, world.manager.publisher, world.clock, world.manager.settings)
    other.declare_all()
    other.keep()  # it counts its own lease
    assert cluster_of(world).epoch == 1
    world.clock.seconds += 7.0
    other.keep()
    assert cluster_of(world).epoch == 2
    epochs.keep()
    assert cluster_of(world).epoch == 2
    assert world.bus.declared.count((CLUSTER, 2, 8)) >= 2


def test_republishing_declares_everything_and_sends_what_is_unsettled_in_order_in_a_new_round(world, epochs):
    made = world.create()
    second = world.change("pause", made.key)
    settled = world.create("web-2")
    world.carry_out(settled)
    world.until(lambda: len(world.bus.published) == 3)
    before = len(world.bus.published)
    page = epochs.republish(CLUSTER)
    assert (page.operations, page.next) == (2, None)
    assert world.bus.restored == [(CLUSTER, 1, 4)]
    world.until(lambda: len(world.bus.published) == before + 2)
    assert [(c.operation, c.round) for c in world.bus.published[before:]] == [(made.id, 2), (second.id, 2)]
    world.carry_out(made)
    assert world.ask(second).verdict == "grant"
    world.report(second, seen(world.record(second), "paused"))
