"""The two brokers that the bus's tests run on, RabbitMQ in a virtual host of its own."""

from __future__ import annotations

import os
import uuid

import pytest
from bus.observing import Place, TcpProxy

from federation.bus.address import parse_address
from federation.bus.connect import open_link


@pytest.fixture(scope="session")
def bus_rabbitmq_url(rabbitmq):
    """A URL of a virtual host that only these tests use, and that ends with them."""
    if rabbitmq.external_url:
        yield rabbitmq.external_url
        return
    name = f"bus-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    yield rabbitmq.add_vhost(name)
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture(params=["memory", "rabbitmq"])
def broker_url(request):
    """The URL of each kind of broker in turn; the embedded one is fresh for each test."""
    if request.param == "memory":
        return f"federation+memory://{uuid.uuid4().hex}"
    return request.getfixturevalue("bus_rabbitmq_url")


@pytest.fixture
def opened():
    """Open started links to any URL; they are closed in the end."""
    links = []

    def open_(url: str, name: str = "test"):
        link = open_link(url, name)
        links.append(link)
        link.start(20.0)
        return link

    yield open_
    for link in links:
        link.close(5.0)


@pytest.fixture
def link(broker_url, opened):
    """A started link."""
    return opened(broker_url)


@pytest.fixture
def other(broker_url, opened):
    """A second link to the same broker."""
    return opened(broker_url, "other")


@pytest.fixture
def name():
    """A name that nothing on the broker has yet."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def place(link, name):
    """A queue to be declared, on `link`; deleted in the end."""
    place = Place(link, name)
    yield place
    if link.connected:
        link.delete_queue(name)


@pytest.fixture
def proxy(bus_rabbitmq_url):
    """A breakable network before RabbitMQ; `proxied_url` leads through it."""
    endpoint = parse_address(bus_rabbitmq_url).endpoints[0]
    proxy = TcpProxy(endpoint.host, endpoint.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxied_url(bus_rabbitmq_url, proxy):
    """RabbitMQ's URL by way of the proxy."""
    port = parse_address(bus_rabbitmq_url).endpoints[0].port
    return bus_rabbitmq_url.replace(f":{port}/", f":{proxy.port}/")
