"""Which host a link takes, what it refuses at its start and how it says so, and TLS."""

from __future__ import annotations

import socket
import threading
import time
from struct import pack

import pytest
from amqp.serialization import dumps
from bus.observing import ORDERED, Place, Reader, eventually

from federation.bus.address import parse_address
from federation.bus.connect import open_link
from federation.bus.errors import BusUnavailable, UnsupportedBroker
from federation.bus.link import PublishResult


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
    link = open_link(bus_rabbitmq_url.removesuffix(address.virtual_host) + "no-such-vhost", "test")
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
