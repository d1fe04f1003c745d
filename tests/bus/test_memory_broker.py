"""What the embedded broker does when time passes, by a clock that is moved by hand."""

from __future__ import annotations

import pytest

from federation.bus.errors import BrokerRefused
from federation.bus.link import Binding, Consumption, Delivery, Exchange, Publication, PublishResult, Queue
from federation.bus.memory.broker import MemoryBroker, broker_named
from federation.bus.memory.queue import Connection, Consumer
from federation.bus.memory.routing import matches
from federation.testing.clock import ManualClock

QUORUM = {"x-queue-type": "quorum"}


class Client:
    """A connection to the broker that records what it is told."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.delivered: list[Delivery] = []
        self.lost: list[str] = []
        self.alarms = 0
        self.consumers: list[Consumer] = []
        self.connection = Connection("user", self._alarm, self._deliver, self._gone, self._channel_lost)
        broker.connect(self.connection)

    def declare(self, name: str = "q", **arguments: object) -> None:
        for item in (Exchange("x", "direct"), Queue(name, arguments=arguments), Binding("x", name, name)):
            self.broker.declare(self.connection, item)

    def publish(self, body: bytes, queue: str = "q", **more: object) -> PublishResult:
        return self.broker.publish(self.connection, Publication("x", queue, body, **more))

    def consume(self, queue: str = "q", prefetch: int = 0, priority: int = 0) -> Consumer:
        consumer = Consumer(Consumption(queue, priority), prefetch, self.connection, self, len(self.consumers))
        self.consumers.append(consumer)
        self.broker.add_consumer(self.connection, consumer)
        return consumer

    def leave(self, consumer: Consumer) -> None:
        self.broker.remove_consumers([consumer])

    def depth(self, queue: str = "q") -> tuple[int, int] | None:
        return self.broker.depth(self.connection, queue)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.delivered]

    def _alarm(self) -> None:
        self.alarms += 1

    def _deliver(self, _: Consumer, delivery: Delivery) -> None:
        self.delivered.append(delivery)

    def _gone(self, consumer: Consumer) -> None:
        self.lost.append(consumer.consumption.queue)

    def _channel_lost(self, _: Consumer, reason: str) -> None:
        self.lost.append(reason)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def broker(clock):
    return MemoryBroker("test", clock.monotonic)


@pytest.fixture
def client(broker):
    return Client(broker)


def test_a_message_expires_by_its_own_limit_or_the_queues_whichever_is_first(client, clock):
    client.declare(**{"x-message-ttl": 5000})
    client.publish(b"long", expiration_seconds=60.0)
    clock.advance(4)
    client.publish(b"short", expiration_seconds=0.5)
    clock.advance(1.5)
    assert client.depth() == (0, 0)


def test_a_message_behind_one_that_lives_longer_is_looked_at_only_when_it_comes_to_the_head(client, clock):
    client.declare(**QUORUM)
    client.publish(b"lives")
    client.publish(b"dies", expiration_seconds=1.0)
    clock.advance(2)
    assert client.depth() == (2, 0)
    client.consume()
    assert client.bodies == [b"lives"]


def test_links_are_alarmed_when_something_will_expire_sooner_than_known(client, broker, clock):
    client.declare(**QUORUM)
    assert broker.due_in() is None
    client.publish(b"late", expiration_seconds=10.0)
    client.publish(b"behind", expiration_seconds=1.0)
    assert (client.alarms, broker.due_in()) == (1, 10.0)
    clock.advance(10)
    assert broker.due_in() == 0
    broker.tick()
    assert client.depth() == (0, 0)


def test_an_unused_queue_expires_and_a_used_one_does_not(client, broker, clock):
    client.declare(**{"x-expires": 1000})
    consumer = client.consume()
    clock.advance(5)
    broker.tick()
    assert client.depth() == (0, 1)
    client.leave(consumer)
    clock.advance(0.9)
    broker.tick()
    assert client.depth() == (0, 0)
    clock.advance(0.2)
    broker.tick()
    assert client.depth() is None


def test_a_consumer_that_holds_a_message_too_long_loses_its_channel_once(client, broker, clock):
    client.declare(**QUORUM, **{"x-consumer-timeout": 2000})
    client.publish(b"slow")
    consumer = client.consume()
    clock.advance(3)
    broker.tick()
    broker.tick()
    assert len(client.lost) == 1
    assert "timed out" in client.lost[0]
    client.leave(consumer)
    client.consume()
    assert [delivery.delivery_count for delivery in client.delivered] == [0, 1]


def test_what_is_taken_back_returns_to_its_own_place(client):
    client.declare(**QUORUM)
    for number in range(6):
        client.publish(b"%d" % number)
    first, second = client.consume(prefetch=2), client.consume(prefetch=2)
    client.leave(second)
    client.leave(first)
    client.delivered.clear()
    client.consume()
    assert client.bodies == [b"%d" % number for number in range(6)]


def test_without_a_limit_of_its_own_a_quorum_queue_delivers_a_message_twenty_one_times(client):
    client.declare(**QUORUM)
    client.publish(b"poison")
    for _ in range(21):
        client.leave(client.consume())
    assert (len(client.delivered), client.depth()) == (21, (0, 0))


def test_a_classic_queue_has_no_delivery_limit_and_counts_nothing(client):
    client.declare()
    client.publish(b"x")
    for _ in range(30):
        client.leave(client.consume())
    assert client.depth() == (1, 0)
    assert {delivery.delivery_count for delivery in client.delivered[1:]} == {1}


def test_dead_letters_at_least_once_wait_for_somewhere_to_go(client, broker):
    arguments = {"x-dead-letter-exchange": "dlx", "x-dead-letter-strategy": "at-least-once"}
    client.declare(**QUORUM, **arguments, **{"x-overflow": "reject-publish"})
    client.publish(b"dead")
    consumer = client.consume()
    broker.settle(consumer, 1, reject=True)
    for item in (Exchange("dlx", "fanout"), Queue("graves", arguments=QUORUM), Binding("dlx", "graves")):
        broker.declare(client.connection, item)
    assert client.depth("graves") == (1, 0)


def test_dead_letters_at_most_once_are_dropped_without_somewhere_to_go(client, broker):
    client.declare(**QUORUM, **{"x-dead-letter-exchange": "dlx"})
    client.publish(b"dead")
    broker.settle(client.consume(), 1, reject=True)
    for item in (Exchange("dlx", "fanout"), Queue("graves", arguments=QUORUM), Binding("dlx", "graves")):
        broker.declare(client.connection, item)
    assert client.depth("graves") == (0, 0)


def test_deaths_of_the_same_kind_are_counted(client, broker):
    client.declare(**QUORUM, **{"x-dead-letter-exchange": "x"})
    client.publish(b"x")
    consumer = client.consume()
    for count in (1, 2, 3):
        broker.settle(consumer, client.delivered[-1].tag[1], reject=True)
        assert client.delivered[-1].headers["x-death"][0]["count"] == count


def test_an_expired_message_does_not_come_back_to_the_queue_that_it_died_in(client, broker, clock):
    client.declare(**QUORUM, **{"x-dead-letter-exchange": "x"})
    client.publish(b"old", expiration_seconds=1.0)
    clock.advance(2)
    broker.tick()
    assert client.depth() == (0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-queue-type": "stream"},
        {"x-delivery-limit": "many"},
        {"x-max-length": -1},
        {"x-single-active-consumer": 1},
        {"x-overflow": "explode"},
        {"x-expires": 0},
        {"x-unheard-of": 1},
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_by_name(client, arguments):
    with pytest.raises(BrokerRefused, match=next(iter(arguments))):
        client.declare(**arguments)


def test_one_name_is_one_broker_in_a_process():
    assert broker_named("one") is broker_named("one")
    assert broker_named("one") is not broker_named("two")


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("#", "", True),
        ("#", "a.b", True),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.c.z", True),
        ("a.*.z", "a.z", False),
        ("*", "", True),
        ("*", "a.b", False),
        ("a", "a.b", False),
    ],
)
def test_topic_patterns_match_words(pattern, key, expected):
    assert matches("topic", pattern, key) is expected
