"""The outbox reaches the broker: in order, in new rounds where that is not certain, whoever owns the shard."""

from manager.world import CLUSTER, World, failed

from federation.contract.outcomes import OutcomeKind
from federation.protocol.ledger import settle
from federation.protocol.partition_map import shard_of
from federation.protocol.records import Outgoing
from federation.store import open_store


def sent(world, key):
    return [(c.sequence, c.round) for c in world.bus.published if c.key == key]


def test_the_next_operation_is_sent_only_after_the_broker_has_the_one_before(world):
    world.bus.verdict = None
    made = world.create()
    world.change("pause", made.key)
    world.until(lambda: world.bus.waiting)
    assert sent(world, made.key) == [(1, 1)]
    world.bus.confirm(certain=True)
    world.until(lambda: world.bus.waiting)
    assert sent(world, made.key) == [(1, 1), (2, 1)]


def test_instances_do_not_wait_for_one_another(world):
    world.bus.verdict = None
    keys = {world.create(f"web-{n}").key for n in range(5)}
    world.until(lambda: {c.key for c in world.bus.published} == keys)


def test_what_the_broker_did_not_confirm_goes_out_again_in_a_new_round_and_in_order(world):
    world.bus.verdict = None
    made = world.create()
    world.change("pause", made.key)
    world.until(lambda: world.bus.waiting)
    world.bus.confirm(certain=False)
    world.until(lambda: world.bus.waiting)
    assert sent(world, made.key) == [(1, 1), (1, 2)]
    world.bus.verdict = True
    world.bus.confirm(certain=True)
    world.until(lambda: len(sent(world, made.key)) == 3)
    assert sent(world, made.key)[2] == (2, 1)


def test_what_was_in_the_outbox_when_a_manager_died_is_published_in_a_new_round_by_the_next(make_world, tmp_path):
    world = make_world(claim_ttl=0.3)
    world.furnish()
    world.bus.verdict = None
    made = world.create()
    world.until(lambda: world.bus.waiting)
    world.manager.publisher._stopping = True  # it dies: nothing is written, no claim is given back
    world.manager.publisher._final_flush = lambda: None
    world.manager.publisher._thread.join(5)
    heir = World(open_store(f"sqlite:///{tmp_path / 'manager.sqlite'}"), id="m2", claim_ttl=0.3)
    heir.start()
    try:
        heir.until(lambda: sent(heir, made.key))
        assert sent(heir, made.key) == [(1, 2)]
    finally:
        heir.manager.stop()
        heir.store.close()


def test_a_stopped_manager_publishes_nothing_again_that_was_confirmed(make_world):
    world = make_world()
    world.furnish()
    made = world.create()
    world.until(lambda: sent(world, made.key))
    world.manager.stop()
    heir = make_world(id="m2", outbox_poll=0.02)
    other = heir.submit("pause", arguments={"instance": made.key})
    heir.until(lambda: sent(heir, made.key))
    assert sent(heir, made.key) == [(other.sequence, 1)]


def test_managers_share_the_shards_and_publish_what_the_other_accepted(make_world):
    world = make_world(claim_ttl=3.0)
    world.furnish(partitions=32)
    other = make_world(start=False, id="m2", claim_ttl=3.0)
    other.manager.start(other.bus)
    world.until(lambda: len(world.manager.publisher.shards) == len(other.manager.publisher.shards) == 16)
    keys = {world.create(f"web-{n}").key for n in range(24)}
    world.until(lambda: {c.key for c in [*world.bus.published, *other.bus.published]} == keys)
    assert other.bus.published
    assert world.bus.published


def test_what_stays_unsettled_without_a_live_attempt_is_swept(make_world):
    world = make_world(sweep_after=0.2, sweep_every=0.05)
    world.furnish()
    made = world.create()
    world.until(lambda: sent(world, made.key)[-1:] == [(1, 2)])
    assert world.record(made).round >= 2


def test_what_is_settled_is_not_swept(make_world):
    world = make_world(sweep_after=0.2, sweep_every=0.05)
    world.furnish()
    made = world.create()
    assert world.ask(made).verdict == "grant"
    world.report(made, failed("invalid_request", OutcomeKind.FAILED))
    rounds = world.record(made).round
    sweeps = world.manager.publisher.counters.swept
    other = world.create("web-2")
    world.until(lambda: world.record(other).round >= 2 and world.manager.publisher.counters.swept > sweeps)
    assert world.record(made).round == rounds


def test_a_lost_copy_whose_operation_another_manager_settled_holds_up_nothing_behind_it(world):
    world.bus.verdict = None
    made = world.create()
    paused = world.change("pause", made.key)
    world.until(lambda: world.bus.waiting)
    with world.store.transaction() as transaction:
        key, facts = transaction.keys([made.key])[made.key], transaction.operations([made.id])[made.id]
        outcome = failed("image_rejected")
        done = settle(key, facts, outcome, world.clock.stamp())
        transaction.save([done.key], [done.operation], {made.id: outcome}, world.clock.wall())
    world.bus.confirm(certain=False)
    world.until(lambda: sent(world, made.key) == [(1, 1), (paused.sequence, 1)])


def test_a_copy_that_the_bus_cannot_take_at_all_is_tried_again(world):
    publish, broken = world.bus.publish, []

    def break_once(command, on_settled):
        if not broken:
            broken.append(command)
            raise RuntimeError(command.operation)
        publish(command, on_settled)

    world.bus.publish = break_once
    made = world.create()
    world.until(lambda: sent(world, made.key) == [(1, 2)])


def test_an_operation_that_a_look_into_the_outbox_found_first_is_not_published_twice(make_world):
    world = make_world(confirm_flush=30.0)
    world.furnish()
    made = world.create()
    world.until(lambda: world.manager.publisher.counters.confirmed == 1)
    world.manager.publisher.accepted(
        [Outgoing(shard=shard_of(CLUSTER, made.partition), command=world.bus.published[0])]
    )
    other = world.create("web-2")
    world.until(lambda: sent(world, other.key))
    assert sent(world, made.key) == [(1, 1)]
