"""What a link does when its connection breaks, on both brokers; and what only a network can do, on RabbitMQ."""

from __future__ import annotations

import socket
import threading
import time
from struct import pack

import pytest
from amqp.serialization import dumps
from bus.observing import ORDERED, QUORUM, Place, Reader, Settled, eventually

from federation.bus.address import parse_address
from federation.bus.connect import open_link
from federation.bus.errors import BusUnavailable, UnsupportedBroker
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


def test_the_next_host_of_the_url_is_taken_when_one_does_not_answer(bus_rabbitmq_url, opened, proxy, name):
    address = parse_address(bus_rabbitmq_url)
    real = address.endpoints[0]
    hosts = f"127.0.0.1:{_closed_port()},127.0.0.1:{proxy.port},{real}"
    link = opened(bus_rabbitmq_url.replace(str(real), hosts) + "?reconnect_max=0.2")
    assert proxy.accepted == 1
    place = Place(link, name).declare(**ORDERED)
    reader = Reader(link, name)
    proxy.refuse()
    place.send(b"over the last host")
    assert reader.wait_for(1)[0].body == b"over the last host"
    link.delete_queue(name)


@pytest.mark.slow
def test_a_host_that_fell_silent_is_not_the_first_to_be_tried_again(bus_rabbitmq_url, opened, proxy):
    real = str(parse_address(bus_rabbitmq_url).endpoints[0])
    url = bus_rabbitmq_url.replace(real, f"127.0.0.1:{proxy.port},{real}")
    link = opened(f"{url}?heartbeat=1&connect_timeout=30&reconnect_max=0.2")
    proxy.freeze()
    eventually(lambda: not link.connected, "the silence is noticed", seconds=8)
    eventually(lambda: link.connected, "the other host is taken", seconds=8)
    proxy.thaw()


def test_without_any_host_the_start_fails_in_time_and_says_what_each_host_said(bus_rabbitmq_url):
    real = str(parse_address(bus_rabbitmq_url).endpoints[0])
    ports = _closed_port(), _closed_port()
    url = bus_rabbitmq_url.replace(real, ",".join(f"127.0.0.1:{port}" for port in ports))
    link = open_link(url, "test")
    begun = time.monotonic()
    with pytest.raises(BusUnavailable, match="refused") as refusal:
        link.start(1.0)
    assert time.monotonic() - begun < 8
    assert set(refusal.value.reasons) == {f"127.0.0.1:{port}" for port in ports}
    assert parse_address(bus_rabbitmq_url).password not in str(refusal.value)


def test_a_wrong_password_fails_the_start_at_once(bus_rabbitmq_url, caplog):
    password = parse_address(bus_rabbitmq_url).password
    link = open_link(bus_rabbitmq_url.replace(password, "wrong-secret"), "test")
    with pytest.raises(BusUnavailable, match="ACCESS_REFUSED"):
        link.start(30.0)
    assert "wrong-secret" not in caplog.text


def test_a_virtual_host_that_is_not_there_fails_the_start_at_once(bus_rabbitmq_url):
    address = parse_address(bus_rabbitmq_url)
    link = open_link(bus_rabbitmq_url.replace(f"/{address.virtual_host}", "/no-such-vhost"), "test")
    with pytest.raises(BusUnavailable, match="no-such-vhost"):
        link.start(30.0)


def test_a_host_that_accepts_and_says_nothing_fails_the_start_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = open_link(f"federation://127.0.0.1:{silent.getsockname()[1]}/?connect_timeout=0.5", "test")
        with pytest.raises(BusUnavailable, match="timed out"):
            link.start(1.0)


@pytest.mark.parametrize(("product", "version"), [("RabbitMQ", "3.13.7"), ("SomethingMQ", "9.0.0")])
def test_a_broker_that_cannot_carry_the_federation_is_refused_by_name(product, version):
    with _FakeBroker(product, version) as port:
        link = open_link(f"federation://127.0.0.1:{port}/", "test")
        with pytest.raises(UnsupportedBroker, match=f"{product} {version}"):
            link.start(20.0)


class _FakeBroker:
    """Says hello as the named product would, and opens the connection; nothing more is needed to be refused."""

    def __init__(self, product: str, version: str) -> None:
        properties = {"product": product, "version": version}
        self._start = dumps("ooFSS", (0, 9, properties, "PLAIN", "en_US"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return self._listener.getsockname()[1]

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with client:
            client.recv(8)
            self._say(client, (10, 10), self._start)
            client.recv(65536)
            self._say(client, (10, 30), dumps("BlB", (2047, 131072, 60)))
            client.recv(65536)
            self._say(client, (10, 41), dumps("s", ("",)))
            client.recv(65536)

    @staticmethod
    def _say(client: socket.socket, method: tuple[int, int], arguments: bytes) -> None:
        payload = pack(">HH", *method) + arguments
        client.sendall(pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def tls_url(rabbitmq):
    """RabbitMQ's TLS listener, with the authority that signed its certificate."""
    facts = rabbitmq.status()
    if "tls_url" not in facts:
        pytest.skip("the given broker has no known TLS listener")
    authority = facts["certificates"]["ca_pem"]
    return facts["tls_url"].replace("amqps://", "federation://") + f"?ssl=1&ssl_ca_file={authority}"


def test_everything_works_over_tls_with_a_checked_certificate(tls_url, opened, name):
    link = opened(tls_url)
    place = Place(link, name).declare(**ORDERED)
    reader = Reader(link, name)
    bodies = [b"%d" % number + b"x" * 20_000 for number in range(200)]
    assert set(place.send(*bodies).results) == {PublishResult.CONFIRMED}
    reader.wait_for(200)
    assert reader.bodies == bodies
    link.break_connection()
    place.send(b"after")
    assert reader.wait_for(201)[-1].body == b"after"
    link.delete_queue(name)


def test_a_client_certificate_is_presented(tls_url, opened, rabbitmq):
    certificates = rabbitmq.status()["certificates"]
    link = opened(f"{tls_url}&ssl_cert_file={certificates['client_pem']}&ssl_key_file={certificates['client_key']}")
    assert link.connected


def test_a_certificate_of_an_unknown_authority_is_refused(tls_url):
    link = open_link(tls_url.split("?")[0] + "?ssl=1", "test")
    with pytest.raises(BusUnavailable, match=r"(?i)certificate"):
        link.start(1.0)


def test_without_verification_any_certificate_will_do(tls_url, opened):
    assert opened(tls_url.split("?")[0] + "?ssl=1&ssl_verify=0").connected


def test_tls_files_that_cannot_be_read_fail_the_start_at_once():
    link = open_link("federation://127.0.0.1/?ssl=1&ssl_ca_file=/no/such/ca.pem", "test")
    with pytest.raises(BusUnavailable, match=r"/no/such/ca\.pem"):
        link.start(30.0)


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
    """RabbitMQ closes the channel up to 4.2 and cancels the consumer from 4.3 on; it looks once a minute."""
    link, other = opened(bus_rabbitmq_url), opened(bus_rabbitmq_url, "other")
    place = Place(link, name).declare(**ORDERED, **{"x-consumer-timeout": 60_000})
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
