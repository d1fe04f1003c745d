"""Messages with an ordering key keep their order: over several servers, while servers join, stop and lose connections."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict

import oslo_messaging
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from federation.bus.connect import open_link
from federation.bus.link import Publication
from federation.bus.oslo import body

PARTITIONS = 16  # the keys below fall into 12 of them: one of three servers comes first for all once in 177,147 runs


class Log:
    """What all servers of a test did, in the order in which they began and ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = defaultdict(int)
        self.begun = defaultdict(list)
        self.done = 0
        self.by_server = defaultdict(set)
        self.overlaps = []

    def begin(self, server, key, number):
        with self._lock:
            self.begun[key].append(number)
            self.by_server[server].add(key)
            self._running[key] += 1
            if self._running[key] > 1:
                self.overlaps.append((key, number))

    def end(self, key):
        with self._lock:
            self._running[key] -= 1
            self.done += 1


class Endpoint:
    def __init__(self, log, name, seconds=0.0):
        self.log = log
        self.name = name
        self.seconds = seconds

    def step(self, ctxt, number):
        key = ctxt["ordering_key"]
        self.log.begin(self.name, key, number)
        time.sleep(self.seconds)
        self.log.end(key)
        return number

    def leave(self, ctxt):
        raise SystemExit(3)

    def fail(self, ctxt):
        raise ValueError("no")


def collapsed(numbers):
    """Without the second of two equal neighbours: a redelivery may repeat a step, never reorder it."""
    return [number for index, number in enumerate(numbers) if index == 0 or numbers[index - 1] != number]


@pytest.fixture
def log():
    return Log()


def test_casts_of_a_key_arrive_in_order_one_at_a_time_over_several_servers(bus, log):
    for name in ("one", "two", "three"):
        bus.serve(bus.transport(partitions=PARTITIONS), name, Endpoint(log, name, 0.001))
    keys = [f"key-{number}" for number in range(24)]

    def send(mine):
        cast = bus.client(transport_of_sender).cast
        for number in range(25):
            for key in mine:
                cast({"ordering_key": key}, "step", number=number)

    transport_of_sender = bus.transport(partitions=PARTITIONS)
    senders = [threading.Thread(target=send, args=(keys[start::4],)) for start in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    bus.eventually(lambda: log.done == 600, 60)
    assert log.begun == {key: list(range(25)) for key in keys}
    assert log.overlaps == []
    assert len(log.by_server) > 1, "one server did all: the partitions are not shared"


def test_calls_of_a_key_keep_their_order_too(bus, log):
    rpc = bus.transport(partitions=PARTITIONS)
    bus.serve(rpc, "one", Endpoint(log, "one"))
    call = bus.client(rpc).call
    assert [call({"ordering_key": "k"}, "step", number=number) for number in range(50)] == list(range(50))
    assert log.begun["k"] == list(range(50))


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=2, max_size=40))
def test_any_mixture_of_keys_casts_and_calls_keeps_the_order_of_each_key(plan):
    world = MixtureWorld.get()
    log = world.fresh_log()
    sent = defaultdict(list)
    for number, (key, wants_reply) in enumerate(plan):
        sent[key].append(number)
        method = world.client.call if wants_reply else world.client.cast
        method({"ordering_key": key}, "step", number=number)
    for key in sent:
        world.client.call({"ordering_key": key}, "step", number=-1)
    assert log.overlaps == []
    assert log.begun == {key: [*numbers, -1] for key, numbers in sent.items()}


class MixtureWorld:
    """Two servers in memory for all examples of the property; kept, since starting them takes longer than an example."""

    _instance = None

    def __init__(self):
        self.endpoints = []
        conf = cfg.ConfigOpts()
        conf([], project="mixture")
        url = "federation+memory://mixture?partitions=3"
        self.transport = oslo_messaging.get_rpc_transport(conf, url)
        self.servers = []
        for name in ("one", "two"):
            endpoint = Endpoint(Log(), name)
            self.endpoints.append(endpoint)
            target = oslo_messaging.Target(topic="mixture", server=name)
            self.servers.append(oslo_messaging.get_rpc_server(self.transport, target, [endpoint]))
            self.servers[-1].start()
        self.client = oslo_messaging.get_rpc_client(self.transport, oslo_messaging.Target(topic="mixture"), timeout=20)

    @classmethod
    def get(cls):
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    @classmethod
    def end(cls):
        if cls._instance is not None:
            for server in cls._instance.servers:
                server.stop()
                server.wait()
            cls._instance.transport.cleanup()
            cls._instance = None

    def fresh_log(self):
        log = Log()
        for endpoint in self.endpoints:
            endpoint.log = log
        return log


@pytest.fixture(scope="module", autouse=True)
def _mixture_ends():
    yield
    MixtureWorld.end()


def test_a_server_that_stops_in_the_middle_hands_over_in_order_and_drops_nothing(bus, log):
    first = bus.serve(bus.transport(partitions=2), "one", Endpoint(log, "one", 0.05))
    cast = bus.client(bus.transport(partitions=2)).cast
    for number in range(60):
        for key in "abcdef":
            cast({"ordering_key": key}, "step", number=number)
    bus.serve(bus.transport(partitions=2), "two", Endpoint(log, "two", 0.001))
    first.stop()
    first.wait()
    bus.eventually(lambda: log.done == 360, 60)
    assert log.begun == {key: list(range(60)) for key in "abcdef"}
    assert log.overlaps == []
    assert len(log.by_server) == 2


def test_a_lost_connection_repeats_at_most_what_ran_and_reorders_nothing(bus, log):
    rpc = bus.transport(partitions=2, reconnect_max=1)
    bus.serve(rpc, "one", Endpoint(log, "one", 0.005))
    cast = bus.client(bus.transport(partitions=2)).cast
    for number in range(80):
        for key in "abc":
            cast({"ordering_key": key}, "step", number=number)
        if number in {20, 50}:
            rpc._driver._here()._listening._link.break_connection()
    bus.eventually(lambda: all(len(set(log.begun[key])) == 80 for key in "abc"), 60)
    assert {key: collapsed(numbers) for key, numbers in log.begun.items()} == {key: list(range(80)) for key in "abc"}
    assert log.overlaps == []
    assert {key: len(numbers) for key, numbers in log.begun.items()} == dict.fromkeys("abc", 80), (
        "a step was run twice though its own process knew that it had run"
    )


def test_a_long_step_holds_up_its_own_key_only(bus, log):
    rpc = bus.transport(partitions=1)
    endpoint = Endpoint(log, "one")
    gate = threading.Event()
    endpoint.hold = lambda ctxt: gate.wait(30)
    bus.serve(rpc, "one", endpoint)
    cast = bus.client(rpc).cast
    cast({"ordering_key": "slow"}, "hold")
    cast({"ordering_key": "slow"}, "step", number=1)
    cast({"ordering_key": "quick"}, "step", number=1)
    bus.eventually(lambda: log.begun["quick"] == [1])
    assert log.begun["slow"] == []
    gate.set()
    bus.eventually(lambda: log.begun["slow"] == [1])


@pytest.mark.parametrize("method", ["leave", "fail"])
def test_an_endpoint_that_raises_anything_at_all_lets_its_key_go_on(bus, log, method):
    rpc = bus.transport(partitions=1)
    bus.serve(rpc, "one", Endpoint(log, "one"))
    cast = bus.client(rpc).cast
    cast({"ordering_key": "k"}, method)
    cast({"ordering_key": "k"}, "step", number=1)
    bus.eventually(lambda: log.begun["k"] == [1])


def test_ordered_messages_to_one_server_and_to_all_keep_their_order_as_well(bus, log):
    rpc = bus.transport(partitions=2)
    bus.serve(rpc, "one", Endpoint(log, "one", 0.002))
    to_one = bus.client(rpc, server="one").cast
    to_all = bus.client(rpc, fanout=True).cast
    for number in range(60):
        to_one({"ordering_key": "one"}, "step", number=number)
        to_all({"ordering_key": "all"}, "step", number=number)
    bus.eventually(lambda: log.done == 120)
    assert log.begun == {"one": list(range(60)), "all": list(range(60))}
    assert log.overlaps == []


def test_messages_without_a_key_still_reach_any_server_of_an_ordered_transport(bus, log):
    rpc = bus.transport(partitions=2)
    endpoint = Endpoint(log, "one")
    endpoint.free = lambda ctxt: "free"
    bus.serve(rpc, "one", endpoint)
    assert bus.client(rpc).call({}, "free") == "free"


def test_a_sender_with_another_number_of_partitions_is_told_instead_of_breaking_the_order(bus, log):
    bus.serve(bus.transport(partitions=4), "one", Endpoint(log, "one"))
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        bus.client(bus.transport(partitions=8)).cast({"ordering_key": "k"}, "step", number=1)


def test_a_copy_of_a_message_is_run_once(bus, log):
    """Such as a sender's link makes when it cannot know whether the first arrived."""
    rpc = bus.transport(partitions=1)
    bus.serve(rpc, "one", Endpoint(log, "one"))
    bus.client(rpc).call({"ordering_key": "k"}, "step", number=1)
    link = open_link(bus.url, "copier")
    link.start(10)
    encoded = body.encode_request({"ordering_key": "k"}, {"method": "step", "args": {"number": 2}}, None, 10_000)
    copy = Publication("federation.rpc:openstack", f"ordered:{bus.topic}:p0of1", encoded, message_id="the same")
    confirmed = []
    for _ in range(3):
        link.publish(copy, confirmed.append)
    bus.eventually(lambda: len(confirmed) == 3)
    bus.client(rpc).call({"ordering_key": "k"}, "step", number=3)
    link.close(5)
    assert log.begun["k"] == [1, 2, 3]


def test_a_message_whose_queue_exists_with_other_arguments_is_an_error_that_says_so(bus, log):
    bus.serve(bus.transport(partitions=1, delivery_limit=50), "one", Endpoint(log, "one"))
    other = bus.transport(partitions=1, delivery_limit=49)
    with pytest.raises(oslo_messaging.MessagingException, match="x-delivery-limit"):
        bus.serve(other, "two", Endpoint(log, "two"))


def test_what_is_no_request_in_a_partition_goes_to_the_dead_letters_and_its_key_goes_on(bus, log):
    rpc = bus.transport(partitions=1)
    bus.serve(rpc, "one", Endpoint(log, "one"))
    link = open_link(bus.url, "forger")
    link.start(10)
    before = link.queue_depth("federation.rpc.dead")[0]
    link.publish(Publication("federation.rpc:openstack", f"ordered:{bus.topic}:p0of1", b"\xc1"))
    bus.client(rpc).call({"ordering_key": "k"}, "step", number=1)
    bus.eventually(lambda: link.queue_depth("federation.rpc.dead")[0] == before + 1)
    link.close(5)


def test_a_message_that_outlives_its_server_too_often_goes_to_the_dead_letters(bus, log):
    rpc = bus.transport(partitions=1, delivery_limit=2, reconnect_max=0.2)
    endpoint = Endpoint(log, "one")
    gate, begun = threading.Event(), threading.Event()

    def hold(ctxt):
        begun.set()
        gate.wait(60)

    endpoint.hold = hold
    server = bus.serve(rpc, "one", endpoint)
    link = open_link(bus.url, "looks at the dead letters")
    link.start(10)
    before = link.queue_depth("federation.rpc.dead")[0]
    bus.client(bus.transport(partitions=1)).cast({"ordering_key": "k"}, "hold")
    assert begun.wait(20)
    listening = rpc._driver._here()._listening._link
    returns = []
    listening.on_reconnect(lambda: returns.append(1))

    def dead():
        return link.queue_depth("federation.rpc.dead")[0] > before

    for number in range(1, 7):
        if dead():
            break
        listening.break_connection()
        bus.eventually(lambda number=number: len(returns) == number)
        bus.eventually(lambda: len(server.listener._order) == 2 or dead())
    gate.set()
    bus.eventually(lambda: link.queue_depth("federation.rpc.dead")[0] == before + 1)
    link.close(5)
    bus.client(bus.transport(partitions=1)).call({"ordering_key": "k"}, "step", number=1)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="oslo_messaging.rpc.server")
