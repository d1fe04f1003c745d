"""Channels of the AsyncAPI document: the exchanges and queues as the bus declares them, seen by a worker.

Names are made by the functions that make the real ones, from stand-ins that become the parameters of the address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from federation.bootstrap.topics import ADMISSION_TOPIC, query_topic
from federation.bus import topology
from federation.bus.link import Binding, Exchange, Queue
from federation.bus.oslo import routes
from federation.bus.oslo.options import DriverOptions
from federation.bus.rpc import CALLS

_CLUSTER, _WORKER, _OWNER, _DOOR = "CLUSTER", "WORKER", "OWNER", "DOOR"
_EPOCH, _PARTITION, _SHARD = 70001, 80002, 90003
_STAND_INS = {
    _CLUSTER: "{cluster}",
    _WORKER: "{worker}",
    _OWNER: "{caller}",
    _DOOR: "{door}",
    str(_EPOCH): "{epoch}",
    str(_PARTITION): "{partition}",
    str(_SHARD): "{shard}",
}
_PARAMETERS = {
    "cluster": "Name of the cluster.",
    "worker": "Id of the worker.",
    "caller": "Id of the process that waits for replies.",
    "epoch": "Number of the cluster's epoch; the answer to an announcement says it.",
    "partition": "Number of the partition, from 0.",
    "shard": "Number of the results queue, from 0.",
}
AMQP_BINDING = "0.3.0"
"""Version of AsyncAPI's AMQP binding."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One way: an exchange, a routing key, the queue where it ends, and the messages that go there."""

    title: str
    description: str
    exchange: Exchange
    routing_key: str
    queue: Queue

    def rendered(self, messages: Iterable[str]) -> dict[str, Any]:
        """AsyncAPI's channel object."""
        address = _templated(self.routing_key)
        queue = _templated(self.queue.name)
        named = [name for name in _PARAMETERS if f"{{{name}}}" in address]
        return {
            "address": address,
            "title": self.title,
            "description": self.description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            "parameters": {name: {"description": _PARAMETERS[name]} for name in named},
            "bindings": {
                "amqp": {"is": "routingKey", "exchange": _exchange(self.exchange), "bindingVersion": AMQP_BINDING}
            },
            "x-queue": {
                "name": queue,
                "durable": self.queue.durable,
                "exclusive": self.queue.exclusive,
                "autoDelete": self.queue.auto_delete,
                "arguments": dict(self.queue.arguments),
            },
        }


def channels() -> dict[str, Channel]:
    """Every channel of a worker by its name."""
    return {
        "commands": _commands(),
        "results": _results(),
        "answers": _answers(),
        "dead": _dead(),
        "queries": _oslo(
            "Queries", "Reads, answered by any worker of the cluster, unordered.", query_topic(_CLUSTER)
        ),
        "admission": _oslo("Admission", "What a worker asks of any manager: to join, to stay, to leave.", ADMISSION_TOPIC),
        "replies": _replies(),
    }  # fmt: skip


def _commands() -> Channel:
    name = topology.command_queue(_CLUSTER, _EPOCH, 0)
    queue = _queue(topology.cluster_items(_CLUSTER, _EPOCH, 1), name)
    return Channel(
        "Commands",
        "Operations that change something, in the order of their instance or node. Consume every partition of the epoch, with a "
        "priority of your own on each; ask before you act; acknowledge last.",
        topology.COMMANDS,
        topology.command_key(_CLUSTER, _EPOCH, _PARTITION),
        Queue(topology.command_queue(_CLUSTER, _EPOCH, _PARTITION), arguments=queue.arguments),
    )


def _results() -> Channel:
    queue = _queue(topology.shared_items(), topology.results_queue(0))
    return Channel(
        "Results",
        "What workers say: questions, outcomes, progress. The routing key confines a worker's broker user to its cluster.",
        topology.RESULTS,
        topology.result_key(_CLUSTER, _PARTITION),
        Queue(topology.results_queue(_SHARD), arguments=queue.arguments),
    )


def _answers() -> Channel:
    items = topology.answers_items(_CLUSTER, _WORKER)
    queue, binding = items[0], items[1]
    if not (isinstance(queue, Queue) and isinstance(binding, Binding)):
        raise TypeError("a worker's queue of answers is no longer declared as a queue and its binding")
    return Channel(
        "Answers",
        "The manager's answers to one worker's questions. The worker declares the queue; answers may be lost.",
        topology.answers_exchange(_CLUSTER),
        binding.routing_key,
        queue,
    )


def _dead() -> Channel:
    return Channel(
        "Dead letters",
        "Commands and results that the broker gave up. The manager treats a command's outcome as unknown.",
        topology.DEAD,
        "",
        _queue(topology.shared_items(), topology.DEAD_QUEUE),
    )


def _oslo(title: str, description: str, topic: str) -> Channel:
    source = routes.Sources(DriverOptions()).topic(topic, CALLS)
    route = routes.topic_route(topic, CALLS)
    exchange = routes.rpc_exchange(topic)
    return Channel(title, description, exchange, route.routing_key, _queue(source.items, source.queue))


def _replies() -> Channel:
    source = routes.Sources(DriverOptions()).replies(_OWNER)
    queue = _queue(source.items, source.queue)
    exchange = routes.replies_exchange(routes.rpc_exchange(_DOOR).name)
    return Channel("Replies", "Replies to calls, to the caller's own queue.", exchange, queue.name, queue)


def _queue(items: Iterable[Exchange | Queue | Binding], name: str) -> Queue:
    return next(item for item in items if isinstance(item, Queue) and item.name == name)


def _exchange(exchange: Exchange) -> dict[str, Any]:
    return {
        "name": _templated(exchange.name),
        "type": exchange.kind,
        "durable": exchange.durable,
        "autoDelete": exchange.auto_delete,
    }


def _templated(name: str) -> str:
    for stand_in, parameter in _STAND_INS.items():
        name = name.replace(stand_in, parameter)
    return name
