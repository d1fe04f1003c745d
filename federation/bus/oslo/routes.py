"""Every exchange, queue and routing key of the transport.

Per oslo.messaging exchange ``<x>`` there are three of ours, all direct and durable: ``federation.rpc:<x>``,
``federation.replies:<x>`` and ``federation.notify:<x>``.  Replies have an exchange per ``<x>``, so that a confined user that
answers the calls of one cannot hear, or give, the replies of another.  Parts are joined by ``:`` and percent-escaped, so that no topic can be mistaken for another
topic's server.  Nothing goes through AMQP's default exchange.

====================================  =========================================  =======================================
who receives                          routing key                                queue
====================================  =========================================  =======================================
any server of a topic                 ``topic:<t>``                              ``federation.rpc:<x>:topic:<t>``
one server                            ``server:<t>:<s>``                         ``federation.rpc:<x>:server:<t>:<s>``
the server that owns partition i      ``ordered:<t>:p<i>of<N>``                  ``federation.rpc:<x>:ordered:<t>:p<i>of<N>``
all servers of a topic                ``fanout:<t>``                             one exclusive queue each
a caller, its reply                   the queue's name                           one exclusive queue each
notification listeners                ``topic:<t>``                              ``federation.notify:<x>:<t>`` and, per
                                                                                 pool, ``federation.notify:<x>:<t>:pool:<p>``
a requeued notification               ``requeue:<queue>``                        the queue that it came from
====================================  =========================================  =======================================

N is part of the partition's name, so that a client with another N gets MessageUndeliverable instead of another order.
What a durable queue gives up (rejected, expired, over the limits) goes to the queue ``federation.rpc.dead``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

import oslo_messaging

from federation.bus.link import Binding, Exchange, Queue
from federation.bus.oslo.options import DriverOptions

DEAD = Exchange("federation.rpc.dead-letters", "fanout")
DEAD_QUEUE = "federation.rpc.dead"
_RPC = "federation.rpc:"
_REPLIES = "federation.replies:"
_DEAD_LENGTH = 10_000
_DEAD_SECONDS = 7 * 86_400
_PRIVATE_LENGTH = 20_000
_MILLISECONDS = 1000
_REMEMBERED = 4096
"""Routes of each kind that are not put together again for every message."""
_NAME_BYTES = 255
"""AMQP's limit of a name or routing key."""

Items = tuple[Exchange | Queue | Binding, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message is published."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Source:
    """A queue to listen on, and what must be declared for it.

    ``own`` is the part of ``items`` that belongs to one process: a queue of its name and the bindings of it.
    """

    queue: str
    items: Items
    own: Items = ()


def _join(*parts: str) -> str:
    """Parts with ``:`` between them, escaped; raises InvalidTarget when AMQP has no room for the name."""
    name = ":".join(quote(part, safe=" !#$&'()*+,-./;<=>?@[]^_`{|}~") for part in parts)
    if len(name) > _NAME_BYTES:
        raise oslo_messaging.InvalidTarget(f"the name {name[:80]}… is longer than AMQP's {_NAME_BYTES} bytes", None)
    return name


@lru_cache(_REMEMBERED)
def rpc_exchange(exchange: str) -> Exchange:
    """The exchange that carries the RPC of one oslo.messaging exchange."""
    return Exchange(_RPC + _join(exchange), "direct")


@lru_cache(_REMEMBERED)
def replies_exchange(rpc: str) -> Exchange:
    """The exchange that carries the replies to calls by one of ours, named ``federation.rpc:<x>``."""
    return Exchange(_REPLIES + rpc.removeprefix(_RPC), "direct")


@lru_cache(_REMEMBERED)
def notify_exchange(exchange: str) -> Exchange:
    """The exchange that carries the notifications of one oslo.messaging exchange."""
    return Exchange("federation.notify:" + _join(exchange), "direct")


@lru_cache(_REMEMBERED)
def topic_route(exchange: str, topic: str) -> Route:
    """To any one server of a topic."""
    return Route(rpc_exchange(exchange).name, _join("topic", topic))


@lru_cache(_REMEMBERED)
def server_route(exchange: str, topic: str, server: str) -> Route:
    """To one server by its name."""
    return Route(rpc_exchange(exchange).name, _join("server", topic, server))


@lru_cache(_REMEMBERED)
def fanout_route(exchange: str, topic: str) -> Route:
    """To every server of a topic that listens at this moment."""
    return Route(rpc_exchange(exchange).name, _join("fanout", topic))


@lru_cache(_REMEMBERED)
def ordered_route(exchange: str, topic: str, partition: int, partitions: int) -> Route:
    """To the server that owns one partition of a topic."""
    return Route(rpc_exchange(exchange).name, _join("ordered", topic, f"p{partition}of{partitions}"))


@lru_cache(_REMEMBERED)
def notify_route(exchange: str, topic: str) -> Route:
    """To the listeners of a notification topic, whose name ends in the priority."""
    return Route(notify_exchange(exchange).name, _join("topic", topic))


def requeue_route(exchange: str, queue: str) -> Route:
    """Back to the queue that a notification came from."""
    return Route(notify_exchange(exchange).name, "requeue:" + queue)


class Sources:
    """The queues that listeners consume, with the arguments that the options ask for."""

    def __init__(self, options: DriverOptions) -> None:
        self._options = options

    def topic(self, exchange: str, topic: str) -> Source:
        """Shared by all servers of a topic."""
        return self._on_route(topic_route(exchange, topic), self._shared_arguments())

    def server(self, exchange: str, topic: str, server: str) -> Source:
        """Of one server; in an ordered transport it has a single active consumer too, should the name be used twice."""
        route = server_route(exchange, topic, server)
        arguments = self._ordered_arguments() if self._options.partitions else self._shared_arguments()
        source = self._on_route(route, arguments)
        return Source(source.queue, source.items, own=source.items[-2:])

    def partition(self, exchange: str, topic: str, partition: int) -> Source:
        """One ordered partition of a topic."""
        route = ordered_route(exchange, topic, partition, self._options.partitions)
        return self._on_route(route, self._ordered_arguments())

    def fanout(self, exchange: str, topic: str, owner: str) -> Source:
        """One server's own queue of a topic's fanout messages; ``owner`` makes its name unique."""
        route = fanout_route(exchange, topic)
        queue = self._private_queue(owner, route.routing_key)
        own = (queue, Binding(route.exchange, queue.name, route.routing_key))
        return Source(queue.name, (rpc_exchange(exchange), *own), own)

    def replies(self, owner: str) -> Source:
        """One caller's own queue of replies."""
        queue = self._private_queue(owner, "replies")
        return Source(queue.name, (queue,), (queue,))

    def replies_from(self, rpc: str, queue: str) -> Source:
        """The way of replies to calls by one exchange into a caller's queue, whose name is its routing key."""
        exchange = replies_exchange(rpc)
        own = (Binding(exchange.name, queue, queue),)
        return Source(queue, (exchange, *own), own)

    def notifications(self, exchange: str, topic: str, pool: str | None) -> Source:
        """The queue of a notification topic, or a pool's own; when full it drops its oldest, never refuses."""
        route = notify_route(exchange, topic)
        parts = (topic,) if pool is None else (topic, "pool", pool)
        name = f"{route.exchange}:{_join(*parts)}"
        back = requeue_route(exchange, name)
        if len(back.routing_key) > _NAME_BYTES:
            raise oslo_messaging.InvalidTarget(f"the queue name {name[:80]}… is longer than AMQP allows", None)
        arguments = {**self._shared_arguments(), "x-overflow": "drop-head"}
        items: Items = (
            notify_exchange(exchange),
            *self.dead_letters(),
            Queue(name, arguments=arguments),
            Binding(route.exchange, name, route.routing_key),
            Binding(back.exchange, name, back.routing_key),
        )
        return Source(name, items)

    def to_declare(self, source: Source) -> Items:
        """What this process declares of a source, as the option ``declare`` has it."""
        return source.items if self._options.declare == "all" else source.own

    def exchanges_to_declare(self, *exchanges: Exchange) -> Items:
        """The same of exchanges, which never are one process's own."""
        return exchanges if self._options.declare == "all" else ()

    def dead_letters(self) -> Items:
        """Where durable queues leave what they give up; itself limited in length and age."""
        arguments = {
            "x-queue-type": "quorum",
            "x-max-length": _DEAD_LENGTH,
            "x-overflow": "drop-head",
            "x-message-ttl": _DEAD_SECONDS * _MILLISECONDS,
        }
        return (DEAD, Queue(DEAD_QUEUE, arguments=arguments), Binding(DEAD.name, DEAD_QUEUE))

    def _on_route(self, route: Route, arguments: Mapping[str, object]) -> Source:
        name = f"{route.exchange}:{route.routing_key}"
        if len(name) > _NAME_BYTES:
            raise oslo_messaging.InvalidTarget(f"the queue name {name[:80]}… is longer than AMQP allows", None)
        items: Items = (
            Exchange(route.exchange, "direct"),
            *self.dead_letters(),
            Queue(name, arguments=arguments),
            Binding(route.exchange, name, route.routing_key),
        )
        return Source(name, items)

    def _private_queue(self, owner: str, purpose: str) -> Queue:
        """Exclusive, so that it goes with its connection, also where a cluster has lost the node that held it."""
        return Queue(
            f"{self._options.private_queue_prefix}:{owner}:{purpose}"[:_NAME_BYTES],
            durable=False,
            exclusive=True,
            arguments={
                "x-expires": self._options.private_queue_expiry * _MILLISECONDS,
                "x-message-ttl": self._options.private_message_ttl * _MILLISECONDS,
                "x-max-length": _PRIVATE_LENGTH,
                "x-overflow": "drop-head",
            },
        )

    def _shared_arguments(self) -> dict[str, object]:
        options = self._options
        arguments: dict[str, object] = {
            "x-queue-type": options.queue_type,
            "x-max-length": options.max_queue_length,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": DEAD.name,
        }
        if options.queue_type == "quorum":
            arguments["x-delivery-limit"] = options.delivery_limit
        if options.queue_expiry:
            arguments["x-expires"] = options.queue_expiry * _MILLISECONDS
        return arguments

    def _ordered_arguments(self) -> dict[str, object]:
        return {
            **self._shared_arguments(),
            "x-queue-type": "quorum",
            "x-delivery-limit": self._options.delivery_limit,
            "x-single-active-consumer": True,
            "x-dead-letter-strategy": "at-least-once",
            "x-consumer-timeout": self._options.consumer_timeout * _MILLISECONDS,
        }
