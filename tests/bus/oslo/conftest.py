"""Transports for the tests of the oslo.messaging driver: over RabbitMQ in a virtual host of their own, and in memory."""

from __future__ import annotations

import os
import time
import uuid

import oslo_messaging
import pytest
from oslo_config import cfg


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
    yield url.replace("amqp://", "federation://")
    rabbitmq.ctl("delete_vhost", name)


@pytest.fixture
def memory_url():
    """A `federation+memory://` URL of a broker that no other test uses."""
    return f"federation+memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["rabbitmq", "memory"])
def bus_url(request):
    """The URL of each kind of broker in turn."""
    return request.getfixturevalue("oslo_rabbitmq_url" if request.param == "rabbitmq" else "memory_url")


@pytest.fixture
def own_conf():
    """A ConfigOpts of this test alone: the transport must not need the global one."""
    conf = cfg.ConfigOpts()
    conf([], project="federation-tests")
    return conf


@pytest.fixture
def transport(own_conf):
    """Opens RPC transports by URL and options, and cleans them up at the end."""
    opened = []

    def open_transport(url, **options):
        query = "&".join(f"{name}={value}" for name, value in {"queue_expiry": 600, **options}.items())
        opened.append(oslo_messaging.get_rpc_transport(own_conf, f"{url}?{query}", allowed_remote_exmods=[__name__]))
        return opened[-1]

    yield open_transport
    for each in opened:
        each.cleanup()


@pytest.fixture
def topic():
    """A topic that no other test uses."""
    return f"topic-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def serve():
    """Starts RPC servers and stops them at the end: `serve(transport, topic, server, endpoint)`."""
    running = []

    def start(transport, topic, name, *endpoints, **target):
        server = oslo_messaging.get_rpc_server(
            transport, oslo_messaging.Target(topic=topic, server=name, **target), list(endpoints)
        )
        server.start()
        running.append(server)
        return server

    yield start
    for each in running:
        each.stop()
        each.wait()


@pytest.fixture
def client():
    """Makes RPC clients: `client(transport, topic, timeout=…, server=…, at_least_once=…)`."""

    def make(transport, topic, timeout=20, retry=None, at_least_once=False, call_monitor_timeout=None, **target):
        return oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(topic=topic, **target),
            timeout=timeout,
            retry=retry,
            call_monitor_timeout=call_monitor_timeout,
            transport_options=oslo_messaging.TransportOptions(at_least_once=at_least_once),
        )

    return make


@pytest.fixture
def eventually():
    """Waits until a condition holds, at most so many seconds: `eventually(lambda: …)`."""

    def wait(condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.02)

    return wait
