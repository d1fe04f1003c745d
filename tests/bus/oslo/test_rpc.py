"""What RPC over the transport does where oslo.messaging's own suite does not look; on both brokers."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from datetime import UTC, datetime

import oslo_messaging
import pytest

from federation.bus.connect import open_link
from federation.bus.link import Publication


class NotListedError(Exception):
    pass


class Endpoint:
    def __init__(self):
        self.calls = []
        self.gate = threading.Event()

    def echo(self, ctxt, value):
        return value

    def note(self, ctxt, value):
        self.calls.append(value)

    def context(self, ctxt):
        return ctxt

    def fail(self, ctxt, kind):
        raise {
            "value": ValueError("no such value"),
            "unlisted": NotListedError("secret detail"),
            "os": OSError(2, "gone"),
        }[kind]

    def leave(self, ctxt):
        raise SystemExit(3)

    def unspeakable(self, ctxt):
        return 1 << 9000

    def huge(self, ctxt, size):
        return "x" * size

    def wait(self, ctxt):
        assert self.gate.wait(20)
        return "waited"


@pytest.fixture
def world(bus):
    """A transport, and the endpoint of the server that it serves."""
    rpc = bus.transport(max_body_bytes=200_000)
    endpoint = Endpoint()
    bus.serve(rpc, "server", endpoint)
    return rpc, endpoint


VALUES = (
    *(None, 1.5, "ü", "", [], {}, b"\x00\xff", {"a": {"b": [1, None, True]}}, "x" * 100_000),
    *(0, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 2**400),
)


def test_a_value_comes_back_as_it_went(bus, world):
    rpc, _ = world
    call = bus.client(rpc).call
    for value in VALUES:
        result = call({}, "echo", value=value)
        assert result == value
        assert type(result) is type(value)


def test_what_json_would_make_of_a_value_the_transport_makes_too(bus, world):
    rpc, _ = world
    call = bus.client(rpc).call
    assert call({}, "echo", value=(1, 2)) == [1, 2]
    assert call({}, "echo", value={1: "one"}) == {"1": "one"}
    identity = uuid.uuid4()
    assert call({}, "echo", value=identity) == str(identity)
    assert call({}, "echo", value=datetime(2026, 1, 2, tzinfo=UTC)).startswith("2026-01-02T00:00:00")


def test_the_context_arrives(bus, world):
    rpc, _ = world
    context = {"user": "u", "roles": ["reader"], "ordering_key": "kept even where nothing is ordered"}
    assert bus.client(rpc).call(context, "context") == context


def test_a_builtin_exception_is_raised_again_at_the_caller(bus, world):
    rpc, _ = world
    with pytest.raises(ValueError, match="no such value"):
        bus.client(rpc).call({}, "fail", kind="value")
    with pytest.raises(OSError, match="gone"):
        bus.client(rpc).call({}, "fail", kind="os")


def test_an_exception_of_a_module_that_is_not_allowed_is_a_remote_error(bus, world):
    rpc, _ = world
    with pytest.raises(oslo_messaging.RemoteError) as caught:
        bus.client(rpc).call({}, "fail", kind="unlisted")
    assert caught.value.exc_type == "NotListedError"


def test_a_call_to_nobody_times_out_and_one_at_least_once_fails_at_once(bus):
    rpc = bus.transport()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        bus.client(rpc, timeout=1).call({}, "echo", value=1)
    start = time.monotonic()
    with pytest.raises(oslo_messaging.MessageUndeliverable) as caught:
        bus.client(rpc, timeout=30, at_least_once=True).call({}, "echo", value=1)
    assert time.monotonic() - start < 10
    assert bus.topic in caught.value.routing_key
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        bus.client(rpc, at_least_once=True).cast({}, "note", value=1)


def test_a_cast_to_nobody_is_not_an_error(bus):
    bus.client(bus.transport()).cast({}, "note", value=1)


def test_a_topic_is_never_taken_for_another_topics_server(bus):
    rpc = bus.transport()
    ours, other = Endpoint(), Endpoint()
    bus.serve(rpc, "a:b", ours)
    bus.serve(rpc, "b", other, topic=f"{bus.topic}:a")
    bus.client(rpc, server="a:b").call({}, "note", value=1)
    bus.client(rpc, topic=f"{bus.topic}:a", server="b").call({}, "note", value=2)
    assert (ours.calls, other.calls) == ([1], [2])


def test_a_name_longer_than_amqp_allows_is_an_invalid_target(bus):
    with pytest.raises(oslo_messaging.InvalidTarget):
        bus.client(bus.transport(), topic="t" * 300).cast({}, "note", value=1)


def test_an_oversized_request_is_refused_before_it_is_sent(bus, world):
    rpc, _ = world
    with pytest.raises(oslo_messaging.MessagingException, match="above the limit of 200000 bytes"):
        bus.client(rpc).call({}, "echo", value="x" * 300_000)
    assert bus.client(rpc).call({}, "echo", value="fits") == "fits"


@pytest.mark.parametrize(("method", "arguments"), [("huge", {"size": 300_000}), ("unspeakable", {})])
def test_a_result_that_cannot_be_sent_is_an_error_at_the_caller_not_a_timeout(bus, world, method, arguments):
    rpc, _ = world
    with pytest.raises(oslo_messaging.RemoteError, match="above the limit"):
        bus.client(rpc).call({}, method, **arguments)


def test_a_value_that_cannot_be_sent_is_refused_at_the_caller(bus, world):
    rpc, _ = world
    with pytest.raises(oslo_messaging.MessagingException, match="above the limit"):
        bus.client(rpc).call({}, "echo", value=1 << 9000)


def test_a_late_reply_disturbs_nobody(bus, world):
    rpc, endpoint = world
    with pytest.raises(oslo_messaging.MessagingTimeout):
        bus.client(rpc, timeout=1).call({}, "wait")
    endpoint.gate.set()
    assert bus.client(rpc).call({}, "echo", value="next") == "next"


def test_calls_from_many_threads_each_get_their_own_reply(bus, world):
    rpc, _ = world
    results = {}

    def run(number):
        call = bus.client(rpc).call
        results[number] = [call({}, "echo", value=[number, each]) for each in range(20)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [[number, each] for each in range(20)] for number in range(16)}


def test_more_calls_than_the_limit_are_refused(bus):
    rpc = bus.transport(max_calls=2)
    endpoint = Endpoint()
    bus.serve(rpc, "server", endpoint)
    waiting = [threading.Thread(target=lambda: bus.client(rpc).call({}, "wait")) for _ in range(2)]
    for thread in waiting:
        thread.start()
    bus.eventually(lambda: len(rpc._driver._here().waiters) == 2)
    with pytest.raises(oslo_messaging.MessageDeliveryFailure, match="max_calls"):
        bus.client(rpc).call({}, "echo", value=1)
    endpoint.gate.set()
    for thread in waiting:
        thread.join()


def test_a_monitored_call_outlives_its_monitor_while_the_server_works_and_fails_when_it_stops(bus):
    rpc = bus.transport()
    endpoint = Endpoint()
    bus.serve(rpc, "server", endpoint)
    threading.Timer(3.5, endpoint.gate.set).start()
    assert bus.client(rpc, timeout=60, call_monitor_timeout=2).call({}, "wait") == "waited"
    start = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout, match="heartbeat"):
        bus.client(rpc, topic=f"{bus.topic}-nobody", timeout=60, call_monitor_timeout=2).call({}, "wait")
    assert time.monotonic() - start < 20


def test_a_body_that_is_no_request_is_answered_if_it_can_be_and_goes_to_the_dead_letters(bus, world, caplog):
    rpc, _ = world
    link = open_link(bus.url, "forger")
    link.start(10)
    before = link.queue_depth("federation.rpc.dead")[0]
    forged = (b"\xc1", b"", b"\x93\x01\x02\x03", b"\x81\xa1v\x02", b"\x82\xa1v\x01\xa3msg\x07", b"\xff" * 500)
    for body in forged:
        link.publish(Publication("federation.rpc:openstack", f"topic:{bus.topic}", body))
    with caplog.at_level(logging.ERROR):
        bus.eventually(lambda: link.queue_depth("federation.rpc.dead")[0] >= before + len(forged))
    link.close(5)
    assert bus.client(rpc).call({}, "echo", value="alive") == "alive"


def test_a_forged_reply_or_one_that_is_garbled_is_an_error_at_the_caller_not_a_crash(bus, world):
    rpc, endpoint = world
    failures = []

    def call():
        try:
            bus.client(rpc, timeout=15).call({}, "wait")
        except Exception as error:  # noqa: BLE001  # whatever it is, the test names it
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    station = rpc._driver._here()
    bus.eventually(lambda: len(station.waiters) == 1)
    correlation_id = next(iter(station.waiters._waiters))
    link = open_link(bus.url, "forger")
    link.start(10)
    queue = station._replies.queue
    bus.eventually(lambda: ("replies", "federation.rpc:openstack") in station.sending._prepared)
    for forged in ("nobody waits for this", correlation_id):
        link.publish(Publication("federation.replies:openstack", queue, b"\xc1", correlation_id=forged))
    thread.join(15)
    link.close(5)
    endpoint.gate.set()
    assert len(failures) == 1, failures
    assert isinstance(failures[0], oslo_messaging.MessagingException)
    assert "not msgpack" in str(failures[0])


def test_two_servers_of_one_transport_share_the_work_and_both_hear_a_fanout(bus):
    rpc = bus.transport()
    one, two = Endpoint(), Endpoint()
    bus.serve(rpc, "one", one)
    bus.serve(rpc, "two", two)
    for number in range(20):
        bus.client(rpc).call({}, "note", value=number)
    assert sorted(one.calls + two.calls) == list(range(20))
    assert one.calls
    assert two.calls
    bus.client(rpc, fanout=True).cast({}, "note", value="all")
    bus.eventually(lambda: "all" in one.calls and "all" in two.calls)


def test_a_stopped_server_leaves_the_rest_to_the_others(bus):
    rpc = bus.transport()
    one, two = Endpoint(), Endpoint()
    first = bus.serve(rpc, "one", one)
    bus.serve(rpc, "two", two)
    first.stop()
    first.wait()
    for number in range(10):
        bus.client(rpc, timeout=10).call({}, "note", value=number)
    assert two.calls == list(range(10))


def test_a_transport_that_was_cleaned_up_says_so(bus):
    rpc = bus.transport()
    bus.client(rpc).cast({}, "note", value=1)
    rpc.cleanup()
    with pytest.raises(oslo_messaging.MessagingException, match="cleaned up"):
        bus.client(rpc).cast({}, "note", value=1)
