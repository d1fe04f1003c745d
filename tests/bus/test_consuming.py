"""Consuming and settling, on both brokers."""

from __future__ import annotations

import threading

import pytest
from bus.observing import ORDERED, QUORUM, Reader, Settled, eventually

from federation.bus.errors import BrokerRefused
from federation.bus.link import Binding, Consumption, Exchange, PublishResult, Queue


def _bodies(count: int, start: int = 0) -> list[bytes]:
    return [b"%05d" % number for number in range(start, start + count)]


def test_messages_arrive_in_the_order_in_which_they_were_published(place, link):
    place.declare(**ORDERED)
    reader = Reader(link, place.name)
    place.send(*_bodies(500))
    reader.wait_for(500)
    assert reader.bodies == _bodies(500)
    eventually(lambda: place.depth() == (0, 1), "all are acknowledged")


def test_callbacks_run_on_the_links_own_thread_and_never_on_the_publishers(place, link):
    place.declare(**QUORUM)
    reader = Reader(link, place.name)
    place.send(*_bodies(20))
    reader.wait_for(20)
    assert len(reader.threads) == 1
    assert threading.get_ident() not in reader.threads


def test_prefetch_limits_what_a_consumer_holds_of_each_queue(place, link, name):
    place.declare(**ORDERED)
    second = f"{name}.second"
    link.declare([Queue(second, arguments=ORDERED), Binding(place.exchange, second, "key")])
    reader = Reader(link, [name, second], prefetch=3, settle="hold")
    place.send(*_bodies(10))
    reader.wait_for(6)
    eventually(lambda: place.depth() == (7, 1), "the rest waits")
    assert sorted(delivery.queue for delivery in reader.deliveries) == [name] * 3 + [second] * 3
    held = next(delivery for delivery in reader.deliveries if delivery.queue == name)
    reader.subscription.ack(held)
    assert reader.wait_for(7)[-1].body == b"00003"
    assert len(reader.deliveries) == 7
    link.delete_queue(second)


def test_a_closed_subscription_gives_back_what_it_held_in_order_and_counts_it(place, link):
    place.declare(**ORDERED)
    place.send(*_bodies(6))
    first = Reader(link, place.name, prefetch=4, settle="hold")
    first.wait_for(4)
    first.ack(0)
    first.wait_for(5)
    first.close()
    second = Reader(link, place.name)
    second.wait_for(5)
    assert second.bodies == _bodies(5, 1)
    assert [delivery.redelivered for delivery in second.deliveries] == [True] * 4 + [False]
    assert [delivery.delivery_count for delivery in second.deliveries] == [1] * 4 + [0]


def test_delivery_counts_grow_with_every_return(place, link):
    place.declare(**ORDERED, **{"x-delivery-limit": 50})
    place.send(b"again")
    for expected in range(4):
        reader = Reader(link, place.name, settle="hold")
        assert reader.wait_for(1)[0].delivery_count == expected
        reader.close()


def test_settling_after_the_channel_has_gone_does_nothing(place, link):
    place.declare(**ORDERED)
    place.send(*_bodies(2))
    reader = Reader(link, place.name, settle="hold")
    reader.wait_for(2)
    reader.close()
    reader.ack(0, 1)
    eventually(lambda: place.depth() == (2, 0), "both are ready again")


def test_settling_twice_does_nothing_the_second_time(place, link):
    place.declare(**ORDERED)
    place.send(*_bodies(3))
    reader = Reader(link, place.name, settle="hold")
    reader.wait_for(3)
    reader.ack(0, 0, 1, 1, 2, 2)
    reader.subscription.reject(reader.deliveries[1])
    place.send(b"after")
    assert reader.wait_for(4)[3].body == b"after"
    assert reader.losses == []


def test_of_several_consumers_only_the_one_of_highest_priority_is_active(place, link, other):
    place.declare(**ORDERED)
    low = Reader(link, place.name, priority=1)
    place.send(*_bodies(5))
    low.wait_for(5)
    high = Reader(other, place.name, priority=2)
    place.send(*_bodies(5, 5))
    high.wait_for(5)
    assert (low.bodies, high.bodies) == (_bodies(5), _bodies(5, 5))


def test_a_higher_priority_takes_over_only_after_what_is_in_flight_is_settled(place, link, other):
    place.declare(**ORDERED)
    place.send(*_bodies(6))
    low = Reader(link, place.name, priority=1, prefetch=2, settle="hold")
    low.wait_for(2)
    high = Reader(other, place.name, priority=2)
    low.ack(0)
    place.send(b"later")
    eventually(lambda: place.depth() == (5, 1), "nobody gets the rest while one message is in flight")
    assert (len(low.deliveries), high.deliveries) == (2, [])
    low.ack(1)
    high.wait_for(5)
    assert high.bodies == [*_bodies(4, 2), b"later"]
    assert len(low.deliveries) == 2


def test_when_the_active_consumer_leaves_the_next_highest_priority_follows(place, link, other):
    place.declare(**ORDERED)
    readers = {priority: Reader(other, place.name, priority=priority) for priority in (5, 9, 7)}
    active = Reader(link, place.name, priority=11, settle="hold")
    place.send(*_bodies(3))
    active.wait_for(3)
    active.close()
    readers[9].wait_for(3)
    assert readers[9].bodies == _bodies(3)
    assert (readers[5].deliveries, readers[7].deliveries) == ([], [])


def test_priorities_of_ordinary_consumers_say_who_is_served_first(place, link, other):
    place.declare(**QUORUM)
    low = Reader(link, place.name, priority=1, prefetch=2, settle="hold")
    high = Reader(other, place.name, priority=5, prefetch=2, settle="hold")
    place.send(*_bodies(3))
    high.wait_for(2)
    low.wait_for(1)
    assert (high.bodies, low.bodies) == (_bodies(2), _bodies(1, 2))


def test_a_rejected_message_is_dead_lettered_with_its_reason_and_its_headers(place, link, name):
    graveyard = _graveyard(link, name)
    place.declare(**ORDERED, **{"x-dead-letter-exchange": graveyard})
    reader = Reader(link, place.name, settle="reject")
    dead = Reader(link, graveyard)
    place.send(b"poison", headers={"federation-operation": "op-1"}, message_id="m")
    letter = dead.wait_for(1)[0]
    assert (letter.body, letter.message_id, letter.headers["federation-operation"]) == (b"poison", "m", "op-1")
    assert letter.headers["x-death"][0]["reason"] == "rejected"
    assert letter.headers["x-death"][0]["queue"] == place.name
    assert len(reader.deliveries) == 1
    link.delete_queue(graveyard)


def test_a_message_above_its_delivery_limit_is_dead_lettered(place, link, name):
    graveyard = _graveyard(link, name)
    place.declare(**ORDERED, **{"x-delivery-limit": 2, "x-dead-letter-exchange": graveyard})
    place.send(b"crash", b"next")
    for count in range(3):
        reader = Reader(link, place.name, prefetch=1, settle="hold")
        assert (reader.wait_for(1)[0].body, reader.deliveries[0].delivery_count) == (b"crash", count)
        reader.close()
    dead = Reader(link, graveyard)
    assert dead.wait_for(1)[0].headers["x-death"][0]["reason"] == "delivery_limit"
    assert Reader(link, place.name).wait_for(1)[0].body == b"next"
    link.delete_queue(graveyard)


def test_an_expired_message_is_dead_lettered_where_the_queue_says_so(place, link, name):
    graveyard = _graveyard(link, name)
    place.declare(**QUORUM, **{"x-dead-letter-exchange": graveyard, "x-dead-letter-routing-key": "gone"})
    dead = Reader(link, graveyard)
    place.send(b"old", expiration_seconds=0.05)
    letter = dead.wait_for(1)[0]
    assert (letter.headers["x-death"][0]["reason"], letter.routing_key) == ("expired", "gone")
    link.delete_queue(graveyard)


def _graveyard(link, name: str) -> str:
    dead = f"{name}.dead"
    link.declare([Exchange(dead, "fanout"), Queue(dead, arguments=QUORUM), Binding(dead, dead)])
    return dead


def test_a_deleted_queue_is_reported_lost_and_consumed_again_once_it_is_back(place, link, other):
    place.declare(**ORDERED)
    other.declare(place.items(**ORDERED))
    reader = Reader(link, place.name, settle="hold")
    place.send(b"void")
    held = reader.wait_for(1)[0]
    link.delete_queue(place.name)
    eventually(lambda: [queue for _, queue in reader.losses] == [place.name], "the loss is reported")
    reader.subscription.ack(held)
    other.declare(place.items(**ORDERED))
    eventually(lambda: place.depth() == (0, 1), "it is consumed again")
    place.send(b"fresh")
    assert reader.wait_for(2)[1].body == b"fresh"


def test_a_queue_that_the_link_declared_itself_is_declared_again_when_someone_deletes_it(place, link, other):
    place.declare(**ORDERED)
    reader = Reader(link, place.name)
    other.delete_queue(place.name)
    eventually(lambda: place.depth() == (0, 1), "it stands again, consumed")
    place.send(b"fresh")
    assert reader.wait_for(1)[0].body == b"fresh"


def test_losing_one_queue_leaves_the_others_of_a_subscription_alone(place, link, other, name):
    doomed = f"{name}.doomed"
    other.declare([Queue(doomed, arguments=ORDERED)])
    place.declare(**ORDERED)
    reader = Reader(link, [doomed, name], settle="hold")
    place.send(b"held")
    reader.wait_for(1)
    other.delete_queue(doomed)
    eventually(lambda: [queue for _, queue in reader.losses] == [doomed], "the loss is reported")
    reader.ack(0)
    eventually(lambda: place.depth() == (0, 1), "the other queue's message was settled")
    other.declare([Queue(doomed, arguments=ORDERED)])
    eventually(lambda: other.queue_depth(doomed) == (0, 1), "the lost one is consumed again")
    assert [queue for _, queue in reader.losses] == [doomed]
    other.delete_queue(doomed)


def test_consuming_a_queue_that_is_not_there_is_refused(link, name):
    with pytest.raises(BrokerRefused, match=name):
        link.subscribe([Consumption(name)], 1, lambda _: None)
    subscription = link.subscribe([], 1, lambda _: None)
    with pytest.raises(BrokerRefused, match=name):
        subscription.add(Consumption(name))
    assert link.connected


def test_a_cancelled_queue_is_left_and_can_be_taken_up_again(place, link):
    place.declare(**ORDERED)
    reader = Reader(link, place.name)
    place.send(b"one")
    reader.wait_for(1)
    eventually(lambda: place.depth() == (0, 1), "it is settled")
    reader.subscription.cancel(place.name)
    place.send(b"two")
    assert place.depth() == (1, 0)
    reader.subscription.add(Consumption(place.name))
    assert reader.wait_for(2)[1].body == b"two"


def test_without_acknowledgements_a_message_is_gone_when_it_is_delivered(place, link):
    place.declare()
    reader = Reader(link, place.name, no_ack=True, settle="hold")
    place.send(*_bodies(30))
    reader.wait_for(30)
    reader.ack(0)
    reader.close()
    eventually(lambda: place.depth() == (0, 0), "nothing is left")


def test_an_exclusive_queue_is_refused_to_others_and_goes_with_its_link(broker_url, opened, name):
    owner, stranger = opened(broker_url, "owner"), opened(broker_url, "stranger")
    owner.declare([Queue(name, durable=False, exclusive=True)])
    with pytest.raises(BrokerRefused):
        stranger.declare([Queue(name, durable=False, exclusive=True)])
    with pytest.raises(BrokerRefused):
        stranger.subscribe([Consumption(name)], 1, lambda _: None)
    owner.close(5)
    eventually(lambda: stranger.queue_depth(name) is None, "it has gone")


def test_an_auto_delete_queue_goes_with_its_last_consumer(place, link, name):
    link.declare([Queue(name, durable=False, exclusive=True, auto_delete=True)])
    first, second = Reader(link, name), Reader(link, name)
    first.close()
    eventually(lambda: place.depth() == (0, 1), "one consumer is left")
    second.close()
    eventually(lambda: place.depth() is None, "it has gone")


def test_an_unused_queue_expires(place, link, name):
    link.declare([Queue(name, durable=False, exclusive=True, arguments={"x-expires": 200})])
    reader = Reader(link, name)
    assert place.depth() == (0, 1)
    reader.close()
    eventually(lambda: other_depth(link, name) is None, "it has expired")


def other_depth(link, name):
    """Looking at a queue counts as use of it, so look seldom."""
    threading.Event().wait(0.5)
    return link.queue_depth(name)


@pytest.mark.parametrize("options", [{"exclusive": True}, {"auto_delete": True}, {"durable": False}])
def test_a_quorum_queue_cannot_be_exclusive_auto_delete_or_transient(link, name, options):
    with pytest.raises(BrokerRefused):
        link.declare([Queue(name, arguments=QUORUM, **options)])


def test_a_delivery_callback_that_raises_is_reported_and_the_next_message_comes(place, link, caplog):
    place.declare(**ORDERED)
    seen: list[bytes] = []

    def take(delivery) -> None:
        seen.append(delivery.body)
        if delivery.body == b"bad":
            raise RuntimeError("broken consumer")

    subscription = link.subscribe([Consumption(place.name)], 10, take)
    assert place.send(b"bad", b"good").results == [PublishResult.CONFIRMED] * 2
    eventually(lambda: seen == [b"bad", b"good"], "both were delivered")
    assert "broken consumer" in caplog.text
    subscription.close(10)
    eventually(lambda: place.depth() == (2, 0), "both are ready again")


def test_settling_and_publishing_inside_callbacks_keeps_a_ring_of_messages_turning(place, link):
    place.declare(**ORDERED)
    rounds = 200
    seen: list[bytes] = []
    settled = Settled()

    def take(delivery) -> None:
        seen.append(delivery.body)
        subscription.ack(delivery)
        if len(seen) < rounds:
            link.publish(place.publication(b"%d" % len(seen)), settled)

    subscription = link.subscribe([], 10, take)
    subscription.add(Consumption(place.name))
    link.publish(place.publication(b"0"), settled)
    eventually(lambda: len(seen) == rounds, "the ring has turned")
    assert seen == [b"%d" % number for number in range(rounds)]
