"""What a link does when its connection breaks, on both brokers; and what only a network can do, on RabbitMQ."""

from __future__ import annotations

import threading

import pytest
from bus.observing import ORDERED, QUORUM, Place, Reader, Settled, eventually

from federation.bus.address import parse_address
from federation.bus.errors import BusUnavailable
from federation.bus.link import Consumption, PublishResult, Queue


def test_after_a_break_topology_and_consumers_stand_again_and_everybody_is_told(place, link):
    told = threading.Event()
    link.on_reconnect(told.set)
    place.declare(**ORDERED)
    reader = Reader(link, place.name, settle="hold")
    place.send(b"held")
    reader.wait_for(1)
    link.break_connection()
    assert told.wait(20)
    reader.wait_for(2)
    assert reader.bodies == [b"held", b"held"]
    assert (reader.deliveries[1].redelivered, reader.deliveries[1].delivery_count) == (True, 1)
    assert [queue for _, queue in reader.losses] == [None]
    reader.ack(0)  # void: of the old connection
    reader.ack(1)
    eventually(lambda: place.depth() == (0, 1), "the second delivery is settled")


def test_a_queue_that_went_with_the_connection_is_declared_again(link, name):
    link.declare([Queue(name, durable=False, exclusive=True, auto_delete=True)])
    Reader(link, name)
    link.break_connection()
    eventually(lambda: link.connected and link.queue_depth(name) == (0, 1), "it stands again, consumed")


def test_a_queue_that_nobody_consumes_is_declared_again_with_its_bindings_before_everybody_is_told(link, place):
    queue = Queue(place.name, durable=False, exclusive=True)
    exchange, _, binding = place.items()
    link.declare([exchange, queue, binding])
    settled = Settled()
    link.on_reconnect(lambda: link.publish(place.publication(), settled))
    link.break_connection()
    eventually(lambda: settled.results == [PublishResult.CONFIRMED], "what is published then finds its queue")


def test_what_was_forgotten_is_not_declared_again(link, name):
    queue = Queue(name, durable=False, exclusive=True)
    link.declare([queue])
    link.forget([queue])
    told = threading.Event()
    link.on_reconnect(told.set)
    link.break_connection()
    assert told.wait(20)
    eventually(lambda: link.queue_depth(name) is None, "the queue has gone for good")


def test_publications_of_a_broken_connection_are_settled_exactly_once_and_later_ones_arrive(place, link):
    place.declare(**ORDERED)
    settled = [Settled() for _ in range(400)]
    for number, each in enumerate(settled):
        link.publish(place.publication(b"%d" % number), each)
        if number in {100, 250}:
            link.break_connection()
    eventually(lambda: all(each.results for each in settled), "all are settled")
    assert [len(each.results) for each in settled] == [1] * 400
    known = {PublishResult.CONFIRMED, PublishResult.LOST}
    assert {each.results[0] for each in settled} <= known
    assert settled[-1].results == [PublishResult.CONFIRMED]
    reader = Reader(link, place.name, prefetch=0)
    confirmed = [b"%d" % n for n, each in enumerate(settled) if each.results == [PublishResult.CONFIRMED]]
    eventually(lambda: set(confirmed) <= set(reader.bodies), "what was confirmed arrives")
    assert [int(body) for body in reader.bodies] == sorted(int(body) for body in reader.bodies)


def test_a_subscription_closed_while_there_is_no_connection_stays_closed(place, link):
    place.declare(**ORDERED)
    reader = Reader(link, place.name)
    link.break_connection()
    reader.close()
    place.send(b"x")
    eventually(lambda: place.depth() == (1, 0), "nobody consumes")
    assert reader.deliveries == []


def test_what_is_published_while_there_is_no_connection_is_sent_when_there_is_one_again(
    proxied_url, proxy, opened, name, bus_rabbitmq_url
):
    link = opened(f"{proxied_url}?reconnect_max=0.2")
    place = Place(link, name).declare(**ORDERED)
    proxy.refuse()
    eventually(lambda: not link.connected, "the link has noticed")
    settled = Settled()
    link.publish(place.publication(), settled)
    with pytest.raises(BusUnavailable):
        link.queue_depth(name, timeout=0.2)
    assert settled.results == []
    proxy.accept()
    eventually(lambda: settled.results == [PublishResult.CONFIRMED], "it is confirmed")
    opened(bus_rabbitmq_url).delete_queue(name)


def test_a_publication_that_nobody_answers_in_time_is_lost(proxied_url, proxy, opened, name, bus_rabbitmq_url):
    link = opened(f"{proxied_url}?confirm_timeout=0.5&heartbeat=30")
    place = Place(link, name).declare(**QUORUM)
    proxy.freeze()
    settled = Settled()
    link.publish(place.publication(), settled)
    eventually(lambda: settled.results == [PublishResult.LOST], "it is lost", seconds=5)
    proxy.thaw()
    assert place.send(b"next").results == [PublishResult.CONFIRMED]
    opened(bus_rabbitmq_url).delete_queue(name)


@pytest.mark.slow
def test_an_exclusive_queue_comes_back_once_the_broker_has_buried_the_connection_that_had_it(
    proxied_url, proxy, opened, name
):
    link = opened(f"{proxied_url}?heartbeat=1&reconnect_max=0.2")
    told = threading.Event()
    link.on_reconnect(told.set)
    place = Place(link, name)
    exchange, _, binding = place.items()
    link.declare([exchange, Queue(name, durable=False, exclusive=True, auto_delete=True), binding])
    reader = Reader(link, name)
    proxy.orphan()
    eventually(lambda: [queue for _, queue in reader.losses] == [None], "the loss is noticed")
    assert told.wait(20)
    place.send(b"x")
    assert reader.wait_for(1)[0].body == b"x"
    assert proxy.accepted == 2  # the refusals in between cost no connection


@pytest.mark.parametrize("lost", ["the binding", "the queue"])
def test_what_the_broker_buries_with_an_older_queue_of_that_name_is_there_again(
    rabbitmq, bus_rabbitmq_url, opened, name, lost
):
    """As a cluster does that finds a node dead: it deletes the old queue, then its bindings, by a name that is in use again."""
    if rabbitmq.external_url:
        pytest.skip("only our own broker can be made to forget something behind our back")
    link = opened(f"{bus_rabbitmq_url}?reconnect_max=0.2")
    place = Place(link, name)
    exchange, _, binding = place.items()
    link.declare([exchange, Queue(name, durable=False, exclusive=True), binding])
    reader = Reader(link, name)
    told = threading.Event()
    link.on_reconnect(told.set)
    link.break_connection()
    assert told.wait(20)
    host = parse_address(bus_rabbitmq_url).virtual_host
    source, queue = (
        f'{{resource, <<"{host}">>, {kind}, <<"{each}">>}}'
        for kind, each in (("exchange", exchange.name), ("queue", name))
    )
    code = {
        "the binding": f'rabbit_binding:remove({{binding, {source}, <<"key">>, {queue}, []}}, <<"tests">>).',
        "the queue": f"rabbit_db_queue:delete({queue}, normal).",
    }[lost]
    rabbitmq.ctl("eval", code)
    assert place.send(b"nobody is there").results == [PublishResult.RETURNED]
    eventually(lambda: place.send(b"x").results == [PublishResult.CONFIRMED], "it is bound again", seconds=15)
    reader.wait_for(1)


@pytest.mark.slow
def test_a_peer_that_falls_silent_is_noticed_by_heartbeats(proxied_url, proxy, opened):
    link = opened(f"{proxied_url}?heartbeat=1&reconnect_max=0.2")
    before = proxy.accepted
    proxy.freeze()
    eventually(lambda: not link.connected, "the silence is noticed", seconds=8)
    proxy.thaw()
    eventually(lambda: link.connected, "the link stands again")
    assert proxy.accepted > before


def test_a_peer_that_does_not_read_is_noticed_by_the_write_timeout(proxied_url, proxy, opened, name, bus_rabbitmq_url):
    link = opened(f"{proxied_url}?write_timeout=1&heartbeat=60&reconnect_max=0.2")
    place = Place(link, name).declare(**QUORUM)
    losses: list[str] = []
    link.subscribe([], 1, lambda _: None, lambda reason, _: losses.append(reason))
    proxy.freeze()
    settled = Settled()
    for _ in range(40):
        link.publish(place.publication(b"x" * 500_000), settled)
    eventually(lambda: losses == ["the broker has not read for 1 s"], "the full pipe is noticed", seconds=8)
    proxy.thaw()
    eventually(lambda: len(settled.results) == 40, "all are settled")
    assert PublishResult.LOST in settled.results
    opened(bus_rabbitmq_url).delete_queue(name)


def test_heartbeats_go_on_while_a_callback_free_link_idles_longer_than_the_broker_waits(bus_rabbitmq_url, opened):
    link = opened(f"{bus_rabbitmq_url}?heartbeat=1")
    lost = threading.Event()
    subscription = link.subscribe([], 1, lambda _: None, lambda reason, queue: lost.set())
    assert not lost.wait(4)
    subscription.close(5)


def test_a_worker_without_permission_is_refused_and_its_link_stays(rabbitmq, bus_rabbitmq_url, opened, name):
    if rabbitmq.external_url:
        pytest.skip("users can only be added to our own broker")
    address = parse_address(bus_rabbitmq_url)
    owner = opened(bus_rabbitmq_url)
    place = Place(owner, name).declare(**ORDERED)
    rabbitmq.add_user(f"user-{name}", "secret", "^$", "^$", "^$", vhost=address.virtual_host)
    url = bus_rabbitmq_url.replace(f"{address.user}:{address.password}", f"user-{name}:secret")
    link = opened(url)
    with pytest.raises(Exception, match="ACCESS_REFUSED"):
        link.subscribe([Consumption(name)], 1, lambda _: None)
    settled = Settled()
    link.publish(place.publication(), settled)
    eventually(lambda: settled.results == [PublishResult.LOST], "the forbidden publication is lost")
    assert link.connected
    owner.delete_queue(name)
    rabbitmq.ctl("delete_user", f"user-{name}")


@pytest.mark.slow
def test_a_restarted_broker_is_found_again_with_everything_confirmed_still_there(breakable_rabbitmq, opened, name):
    link = opened(f"{breakable_rabbitmq.federation_url}?reconnect_max=0.5")
    place = Place(link, name).declare(**ORDERED)
    reader = Reader(link, name, settle="hold")
    place.send(b"1", b"2")
    reader.wait_for(2)
    told = threading.Event()
    link.on_reconnect(told.set)
    breakable_rabbitmq.restart()
    assert told.wait(60)
    reader.wait_for(4)
    assert reader.bodies[2:] == [b"1", b"2"]
    link.delete_queue(name)


@pytest.mark.slow
def test_while_the_broker_is_short_of_memory_publications_wait_and_the_link_stays(breakable_rabbitmq, opened, name):
    link = opened(f"{breakable_rabbitmq.federation_url}?heartbeat=1&write_timeout=1")
    place = Place(link, name).declare(**ORDERED)
    place.send(b"first")  # RabbitMQ blocks only connections that publish
    lost = threading.Event()
    subscription = link.subscribe([], 1, lambda _: None, lambda reason, queue: lost.set())
    breakable_rabbitmq.ctl("set_vm_memory_high_watermark", "0.000001")
    settled = Settled()
    for _ in range(3):
        link.publish(place.publication(b"x" * 1000), settled)
    assert not lost.wait(4)
    assert settled.results == []
    breakable_rabbitmq.ctl("set_vm_memory_high_watermark", "0.6")
    eventually(lambda: settled.results == [PublishResult.CONFIRMED] * 3, "they are confirmed")
    assert not lost.is_set()
    subscription.close(5)
    link.delete_queue(name)


@pytest.mark.slow
def test_a_consumer_that_holds_a_message_too_long_loses_it_and_its_link_stays(bus_rabbitmq_url, opened, name):
    """RabbitMQ closes the channel up to 4.2 and cancels the consumer from 4.3 on."""
    link, other = opened(bus_rabbitmq_url), opened(bus_rabbitmq_url, "other")
    place = Place(link, name).declare(**ORDERED, **{"x-consumer-timeout": 15_000})
    bystander = Place(link, f"{name}.bystander").declare(**ORDERED)
    reader = Reader(link, [name, bystander.name], priority=2, settle="hold")
    place.send(b"held too long")
    reader.wait_for(1)
    waiting = Reader(other, name, priority=1)
    waiting.wait_for(1, seconds=150)
    assert [queue in {name, None} for _, queue in reader.losses] == [True]
    assert not any("lost the connection" in reason for reason, _ in reader.losses)
    reader.ack(0)
    bystander.send(b"x")
    eventually(lambda: b"x" in reader.bodies, "the other queue is still, or again, consumed")
    for queue in (name, bystander.name):
        link.delete_queue(queue)
