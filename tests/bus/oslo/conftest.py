"""Transports for the tests of the oslo.messaging driver: over RabbitMQ in a virtual host of their own, and in memory."""

from __future__ import annotations

import os
import uuid

import pytest


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
