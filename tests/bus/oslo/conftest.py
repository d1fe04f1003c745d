"""Transports for the tests of the oslo.messaging driver: over RabbitMQ in a virtual host of their own, and in memory."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager

import oslo_messaging
import pytest
from oslo_config import cfg

from federation.bus.oslo.driver import FederationDriver


@pytest.fixture(scope="session")
def oslo_rabbitmq_url(rabbitmq):
    """A `federation://` URL of a virtual host that only these tests use, and that ends with them.

    A broker that the environment gives is not ours to make virtual hosts in: there its own is used.
    """
    if rabbitmq.external_url:
        yield rabbitmq.external_url.replace("amqp://", "federation://")
        return
    name = f"oslo-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    url = rabbitmq.add_vhost(name)
    with all_closed():
        yield url.replace("amqp://", "federation://")
    rabbitmq.ctl("delete_vhost", name)


@contextmanager
def all_closed():
    """Close at the end whatever was opened meanwhile: tests of oslo.messaging's own suite leave their loggers' transports."""
    made = []
    begin = FederationDriver.__init__

    def noted(self, *arguments, **options):
        begin(self, *arguments, **options)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FederationDriver, "__init__", noted)
        yield
    for driver in made:
        driver.cleanup()


@pytest.fixture
def memory_url():
    """A `federation+memory://` URL of a broker that no other test uses."""
    return f"federation+memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["rabbitmq", "memory"])
def bus_url(request):
    """The URL of each kind of broker in turn."""
    return request.getfixturevalue("oslo_rabbitmq_url" if request.param == "rabbitmq" else "memory_url")


class Bus:
    """One broker, a topic that no other test uses, and whatever a test opens on them; all closed at the end."""

    def __init__(self, url):
        self.url = url
        self.topic = f"topic-{uuid.uuid4().hex[:8]}"
        self.conf = cfg.ConfigOpts()  # of this test alone: the transport must not need the global one
        self.conf([], project="federation-tests")
        self._transports = []
        self._servers = []

    def transport(self, **options):
        """An RPC transport with these options in its URL."""
        options = {"queue_expiry": 600, **options}
        mark = "&" if "?" in self.url else "?"
        url = self.url + mark + "&".join(f"{name}={value}" for name, value in options.items())
        self._transports.append(oslo_messaging.get_rpc_transport(self.conf, url))
        return self._transports[-1]

    def serve(self, transport, name, endpoint, topic=None):
        """A running RPC server."""
        target = oslo_messaging.Target(topic=topic or self.topic, server=name)
        server = oslo_messaging.get_rpc_server(transport, target, [endpoint])
        server.start()
        self._servers.append(server)
        return server

    def client(self, transport, *, timeout=20, retry=None, at_least_once=False, call_monitor_timeout=None, **target):
        """An RPC client of the topic; the rest goes into its target."""
        return oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(**{"topic": self.topic, **target}),
            timeout=timeout,
            retry=retry,
            call_monitor_timeout=call_monitor_timeout,
            transport_options=oslo_messaging.TransportOptions(at_least_once=at_least_once),
        )

    def eventually(self, condition, seconds=20.0):
        """Wait until a condition holds, at most so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.02)

    def close(self):
        """Stop the servers, then disconnect."""
        for server in self._servers:
            server.stop()
            server.wait()
        for transport in self._transports:
            transport.cleanup()


@pytest.fixture
def open_bus():
    """Makes a Bus from a URL."""
    opened = []

    def make(url):
        opened.append(Bus(url))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def bus(bus_url, open_bus):
    """A Bus on each kind of broker in turn."""
    return open_bus(bus_url)
