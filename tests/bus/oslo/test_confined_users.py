"""A server whose broker user may configure nothing but its own queues."""

from __future__ import annotations

import re
import uuid

import oslo_messaging
import pytest

from federation.bus.oslo.driver import provide_topic


class Echo:
    def __init__(self):
        self.contexts = []

    def echo(self, ctxt, value):
        self.contexts.append(ctxt)
        return value


@pytest.fixture
def confined_url(rabbitmq, oslo_rabbitmq_url):
    """The URL of a user that may configure only `own.…` and its server's queue, and the prefix of its queues."""
    if rabbitmq.external_url:
        pytest.skip("users are made on the tests' own broker only")
    name = f"confined-{uuid.uuid4().hex[:6]}"
    vhost = oslo_rabbitmq_url.rpartition("/")[2]
    own = rf"^(own\.{name}:.*|federation\.rpc:openstack:server:.*:{name})$"
    shared = rf"^(own\.{name}:.*|federation\.rpc:openstack(:.*)?|federation\.replies:openstack|federation\.rpc\.dead-letters)$"
    rabbitmq.add_user(name, "secret", own, shared, shared, vhost=vhost)
    yield re.sub(r"//.*@", f"//{name}:secret@", oslo_rabbitmq_url), name
    rabbitmq.ctl("delete_user", name)


def test_a_confined_server_serves_calls_fanouts_and_partitions_that_another_declared(
    confined_url, oslo_rabbitmq_url, open_bus
):
    url, user = confined_url
    manager, worker = open_bus(oslo_rabbitmq_url), open_bus(url)
    worker.topic = manager.topic
    managers = manager.transport(partitions=2)
    provide_topic(managers, oslo_messaging.Target(topic=manager.topic))
    echo = Echo()
    workers = worker.transport(partitions=2, declare="own", private_queue_prefix=f"own.{user}")
    worker.serve(workers, user, echo)
    client = manager.client(managers)
    assert client.call({}, "echo", value="any") == "any"
    assert client.call({"ordering_key": "k"}, "echo", value="ordered") == "ordered"
    assert client.prepare(server=user).call({}, "echo", value="this one") == "this one"
    client.prepare(fanout=True).cast({}, "echo", value="all")
    manager.eventually(lambda: len(echo.contexts) == 4)
    assert worker.client(workers).call({}, "echo", value="its own call") == "its own call"


def test_a_confined_server_that_declares_all_is_told_what_it_may_not(confined_url, open_bus):
    url, user = confined_url
    worker = open_bus(url)
    with pytest.raises(oslo_messaging.MessagingException, match=r"refused|access"):
        worker.serve(worker.transport(private_queue_prefix=f"own.{user}"), user, Echo())


def test_the_context_names_the_broker_user_that_sent_whatever_the_sender_claims(bus):
    transport = bus.transport(user_in_context="sent_by")
    echo = Echo()
    bus.serve(transport, "server", echo)
    bus.client(transport).call({"sent_by": "somebody else"}, "echo", value=1)
    user = transport._driver._address.user
    assert echo.contexts == [{"sent_by": user}]
    assert user != "somebody else"
