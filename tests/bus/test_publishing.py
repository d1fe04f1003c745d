"""Publishing, on both brokers."""

from __future__ import annotations

import threading

import pytest
from bus.observing import ORDERED, QUORUM, Place, Reader, Settled, eventually

from federation.bus.errors import BodyTooLarge, BusError, BusOverloaded, CannotEncode, LinkClosed, TopologyMismatch
from federation.bus.link import Binding, Exchange, Publication, PublishResult, Queue


def test_a_publication_that_reached_a_queue_is_confirmed(place):
    place.declare(**QUORUM)
    assert place.send(b"one").results == [PublishResult.CONFIRMED]
    eventually(lambda: place.depth() == (1, 0), "the message is ready")


def test_a_mandatory_publication_that_leads_nowhere_is_returned(place, link):
    place.declare(**QUORUM)
    settled = Settled()
    link.publish(Publication(place.exchange, "nowhere", b"x"), settled)
    eventually(lambda: settled.results == [PublishResult.RETURNED], "it is returned")


def test_of_pipelined_publications_exactly_the_unroutable_ones_are_returned(place, link):
    place.declare(**QUORUM)
    results: dict[int, PublishResult] = {}
    for number in range(300):
        key = "nowhere" if number % 3 == 0 else "key"
        link.publish(Publication(place.exchange, key, b"x"), lambda result, n=number: results.__setitem__(n, result))
    eventually(lambda: len(results) == 300, "all are settled")
    assert {n for n, result in results.items() if result is PublishResult.RETURNED} == set(range(0, 300, 3))
    assert {results[n] for n in results if n % 3} == {PublishResult.CONFIRMED}


def test_without_mandatory_an_unroutable_publication_is_confirmed(place, link):
    place.declare(**QUORUM)
    settled = Settled()
    link.publish(Publication(place.exchange, "nowhere", b"x", mandatory=False), settled)
    eventually(lambda: settled.results == [PublishResult.CONFIRMED], "it is confirmed")


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(place, link):
    place.declare(**QUORUM, **{"x-max-length": 2, "x-overflow": "reject-publish"})
    nacked = False
    for _ in range(20):  # RabbitMQ's limit is a soft one: it may let a few more in
        nacked = nacked or PublishResult.NACKED in place.send(b"x").results
    assert nacked
    Reader(link, place.name)
    eventually(lambda: place.depth() == (0, 1), "the queue is empty")
    eventually(lambda: place.send(b"again").results == [PublishResult.CONFIRMED], "it takes again")


def test_a_queue_that_drops_its_head_keeps_the_newest(place, link):
    place.declare(**{"x-max-length": 2})
    assert set(place.send(b"1", b"2", b"3", b"4").results) == {PublishResult.CONFIRMED}
    eventually(lambda: place.depth() == (2, 0), "two are left")
    assert [delivery.body for delivery in Reader(link, place.name).wait_for(2)] == [b"3", b"4"]


def test_a_publication_to_an_exchange_that_is_not_there_is_lost_and_the_next_one_is_not(place, link):
    place.declare(**QUORUM)
    settled = Settled()
    link.publish(Publication("no.such.exchange", "key", b"x"), settled)
    eventually(lambda: settled.results == [PublishResult.LOST], "it is lost")
    assert place.send(b"after").results == [PublishResult.CONFIRMED]


def test_all_properties_and_headers_arrive(place, link):
    place.declare(**QUORUM)
    reader = Reader(link, place.name)
    headers = {"text": "ü", "small": -3, "large": 2**40, "ratio": 0.5, "yes": True, "none": None, "list": [1, "a"]}
    place.send(
        b"\x00\xff", headers=headers, message_id="m-1", correlation_id="c-1", reply_to="r-1", content_type="text/plain"
    )
    delivery = reader.wait_for(1)[0]
    assert {name: delivery.headers[name] for name in headers} == headers
    assert (delivery.message_id, delivery.correlation_id, delivery.reply_to) == ("m-1", "c-1", "r-1")
    assert (delivery.body, delivery.content_type) == (b"\x00\xff", "text/plain")
    assert (delivery.queue, delivery.exchange, delivery.routing_key) == (place.name, place.exchange, "key")
    assert (delivery.redelivered, delivery.delivery_count) == (False, 0)


def test_every_publication_carries_the_user_that_the_broker_knows(place, link, broker_url):
    place.declare(**QUORUM)
    reader = Reader(link, place.name)
    place.send(b"x")
    user = "local" if "memory" in broker_url else broker_url.split("//")[1].split(":")[0]
    assert reader.wait_for(1)[0].user_id == user


@pytest.mark.parametrize("size", [0, 1, 131_071, 131_072, 131_073, 1_000_000])
def test_bodies_of_any_size_arrive_whole(place, link, size):
    place.declare(**QUORUM)
    reader = Reader(link, place.name)
    body = bytes(i % 251 for i in range(size))
    assert place.send(body).results == [PublishResult.CONFIRMED]
    assert reader.wait_for(1)[0].body == body


def test_a_body_above_the_limit_is_refused_before_it_is_sent(broker_url, opened, name):
    link = opened(f"{broker_url}?max_body_bytes=10")
    with pytest.raises(BodyTooLarge, match="11 bytes is above the limit of 10"):
        link.publish(Publication(name, "key", b"x" * 11), Settled())


def test_a_header_without_a_form_in_amqp_is_refused_by_name(place, link):
    place.declare(**QUORUM)
    with pytest.raises(CannotEncode, match="'odd'"):
        link.publish(place.publication(headers={"odd": object()}), Settled())


def test_above_the_limit_of_unsettled_publications_more_are_refused(broker_url, opened, name):
    link = opened(f"{broker_url}?max_unsettled=3")
    place = Place(link, name).declare(**QUORUM)
    gate = threading.Event()
    entered = threading.Event()

    def hold(_: PublishResult) -> None:
        entered.set()
        gate.wait(20)

    link.publish(place.publication(), hold)
    assert entered.wait(20)  # from here on the link's thread settles nothing
    for _ in range(2):
        link.publish(place.publication(), Settled())
    eventually(lambda: _is_overloaded(link, place), "the limit is reached")
    gate.set()
    eventually(lambda: link.queue_depth(name) is not None, "the link answers again")
    link.delete_queue(name)


def _is_overloaded(link, place) -> bool:
    try:
        link.publish(place.publication(), Settled())
    except BusOverloaded:
        return True
    return False


def test_an_expired_message_is_never_delivered(place, link):
    place.declare(**QUORUM)
    place.send(b"old", expiration_seconds=0.05)
    eventually(lambda: place.depth() == (0, 0), "it has expired")
    reader = Reader(link, place.name)
    place.send(b"new", expiration_seconds=60.0)
    assert reader.wait_for(1)[0].body == b"new"


@pytest.mark.parametrize(
    ("kind", "pattern", "keys"),
    [
        ("direct", "a.b", (["a.b"], ["a.c", "a.b.c", "#"])),
        ("fanout", "", (["a", "a.b", ""], [])),
        ("topic", "outcome.*.7", (["outcome.east.7", "outcome..7"], ["outcome.east.8", "outcome.7", "outcome.a.b.7"])),
        ("topic", "outcome.#", (["outcome", "outcome.a", "outcome.a.b"], ["outcomes.a"])),
    ],
)
def test_exchanges_route_by_their_kind(link, name, kind, pattern, keys):
    exchange = f"{name}.{kind}"
    link.declare([Exchange(exchange, kind), Queue(name, arguments=QUORUM), Binding(exchange, name, pattern)])
    matching, missing = Settled(), Settled()
    for settled, some in zip((matching, missing), keys, strict=True):
        for key in some:
            link.publish(Publication(exchange, key, b"x"), settled)
    eventually(lambda: len(matching.results + missing.results) == sum(map(len, keys)), "all are settled")
    assert matching.results == [PublishResult.CONFIRMED] * len(keys[0])
    assert missing.results == [PublishResult.RETURNED] * len(keys[1])
    link.delete_queue(name)


def test_one_publication_may_reach_several_queues_once_each(link, name):
    exchange = f"{name}.fan"
    queues = [f"{name}.{number}" for number in range(3)]
    items = [Exchange(exchange, "fanout"), *(Queue(q, arguments=QUORUM) for q in queues)]
    link.declare([*items, *(Binding(exchange, q) for q in queues), Binding(exchange, queues[0], "twice")])
    link.publish(Publication(exchange, "", b"x"), Settled())
    for queue in queues:
        eventually(lambda q=queue: link.queue_depth(q) == (1, 0), "one copy each")
        link.delete_queue(queue)


def test_declaring_the_same_again_changes_nothing_and_otherwise_is_a_mismatch(place, link, other):
    place.declare(**ORDERED)
    place.send(b"kept")
    other.declare(place.items(**ORDERED))
    assert place.depth() == (1, 0)
    with pytest.raises(TopologyMismatch, match="x-single-active-consumer"):
        other.declare([Queue(place.name, arguments=QUORUM)])
    with pytest.raises(TopologyMismatch):
        other.declare([Exchange(place.exchange, "topic")])
    assert other.connected
    assert link.connected


def test_depth_and_deletion_know_queues_that_are_not_there(place, link):
    assert link.queue_depth(place.name) is None
    link.delete_queue(place.name)
    place.declare(**QUORUM)
    assert place.depth() == (0, 0)
    link.delete_queue(place.name)
    assert place.depth() is None


def test_publications_of_many_threads_are_all_settled_and_each_threads_own_keep_their_order(place, link):
    place.declare(**ORDERED)
    settled = Settled()

    def publish(thread: int) -> None:
        for number in range(100):
            link.publish(place.publication(b"%d:%d" % (thread, number)), settled)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    reader = Reader(link, place.name)
    reader.wait_for(600)
    for number in range(6):
        own = [body for body in reader.bodies if body.startswith(b"%d:" % number)]
        assert own == [b"%d:%d" % (number, i) for i in range(100)]
    eventually(lambda: len(settled.results) == 600, "all are settled")
    assert set(settled.results) == {PublishResult.CONFIRMED}


def test_closing_settles_what_waits_and_refuses_what_comes_later(broker_url, opened, name):
    link = opened(broker_url)
    place = Place(link, name).declare(**QUORUM)
    settled = Settled()
    for _ in range(200):
        link.publish(place.publication(), settled)
    link.close(20)
    assert settled.results == [PublishResult.CONFIRMED] * 200
    for call in (
        lambda: link.publish(place.publication(), settled),
        lambda: link.queue_depth(name),
        lambda: link.declare([]),
    ):
        with pytest.raises(LinkClosed):
            call()
    assert not link.connected
    opened(broker_url).delete_queue(name)


def test_waiting_for_the_broker_in_a_callback_is_an_error_and_no_deadlock(place, link):
    place.declare(**QUORUM)
    errors: list[BaseException] = []

    def wait(_: PublishResult) -> None:
        try:
            link.queue_depth(place.name)
        except BusError as error:
            errors.append(error)

    link.publish(place.publication(), wait)
    eventually(lambda: errors, "the callback was refused")
    assert "callback" in str(errors[0])


def test_what_was_told_to_wait_for_more_leaves_with_it_or_soon_alone(place, link):
    place.declare(**QUORUM)
    settled = [Settled(), Settled(), Settled()]
    link.publish(Publication(place.exchange, "key", b"first"), settled[0], more=True)
    link.publish(Publication(place.exchange, "key", b"second"), settled[1])
    eventually(lambda: all(each.results == [PublishResult.CONFIRMED] for each in settled[:2]), "both are confirmed")
    link.publish(Publication(place.exchange, "key", b"alone"), settled[2], more=True)
    eventually(lambda: settled[2].results == [PublishResult.CONFIRMED], "it is confirmed")
    eventually(lambda: place.depth() == (3, 0), "all are there")
