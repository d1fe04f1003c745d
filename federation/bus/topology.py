"""Names and arguments of everything that is shared on the broker (DESIGN §6.1, §7).

Rules:

1. Nothing goes through the default exchange.  Exchanges are durable; commands, results and dead letters have one each,
   answers one for each cluster.
2. A command queue is a quorum queue with a single active consumer, an explicit delivery limit, at-least-once
   dead-lettering (which RabbitMQ only has together with ``x-overflow: reject-publish``), a length limit, and a consumer
   timeout above the longest deadline.  Its name carries the cluster's epoch.
3. Outcomes carry the routing key ``outcome.<cluster>.<partition>``, so that a topic permission confines a worker's user
   to its cluster, into a fixed number of results queues.
4. The manager declares all that is shared; a worker declares its own answers queue only.
5. Answers have an exchange per cluster, for whoever may bind a queue to a direct exchange may bind it by any key.  (A
   topic exchange, whose keys RabbitMQ checks, was tried: when an exclusive queue had gone with its connection and was
   declared again by the same name, its new binding was now and then lost, also rabbitmq/rabbitmq-server issue 2079.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from federation.bus.link import Binding, Exchange, Link, Queue
from federation.protocol.partition_map import SHARDS, shard_of

COMMANDS = Exchange("federation.commands", "direct")
RESULTS = Exchange("federation.results", "topic")
DEAD = Exchange("federation.dead", "fanout")
DEAD_QUEUE = "federation.dead"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DECLARE_SECONDS = 60.0
QUORUM: Mapping[str, object] = {
    "x-queue-type": "quorum",
    "x-queue-leader-locator": "balanced",
    # From 4.3 on a queue waits a minute before it gives up a consumer on a broker node that has gone; older versions do
    # not wait at all.  The protocol does not need the wait, and the next consumer should not either.
    "x-consumer-disconnected-timeout": 1000,
}
"""What every quorum queue of the federation is declared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the shared queues.

    They are part of a queue's identity: a queue that exists with others raises TopologyMismatch at the declaration.
    """

    delivery_limit: int = 50
    """Deliveries of one copy before it is dead-lettered; above the protocol's own limit of grants."""
    commands: int = 50_000
    """Messages that may wait in one command queue."""
    results: int = 100_000
    """Messages that may wait in one results queue."""
    dead: int = 100_000
    """Dead letters that may wait; above it they stay in the queue where they died."""
    answers: int = 10_000
    """Answers that may wait for one worker; the oldest are dropped, the worker asks again."""
    consumer_timeout_seconds: int = 2 * 24 * 3600
    """How long a worker may hold a command; above the longest deadline."""


DEFAULT_LIMITS = Limits()


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a {what}: letters, digits, '_', '-' and '.', at most 128")
    return name


def command_key(cluster: str, epoch: int, partition: int) -> str:
    """Routing key of one partition's commands."""
    return f"{_checked(cluster, 'cluster')}.{epoch}.{partition}"


def command_queue(cluster: str, epoch: int, partition: int) -> str:
    """Name of one partition's queue."""
    return f"federation.{_checked(cluster, 'cluster')}.e{epoch}.p{partition}"


def result_key(cluster: str, partition: int) -> str:
    """Routing key of what workers say about one partition."""
    return f"outcome.{_checked(cluster, 'cluster')}.{partition}"


def read_result_key(routing_key: str) -> tuple[str, int] | None:
    """(cluster, partition) of a routing key, None when it is none of ours."""
    word, _, rest = routing_key.partition(".")
    cluster, _, partition = rest.rpartition(".")
    if word != "outcome" or not _NAME.fullmatch(cluster) or not (partition.isascii() and partition.isdigit()):
        return None
    return cluster, int(partition)


def results_queue(shard: int) -> str:
    """Name of one results queue."""
    return f"federation.results.{shard}"


def answers_queue(cluster: str, worker: str) -> str:
    """Name of a worker's own queue of answers."""
    return f"federation.{_checked(cluster, 'cluster')}.worker.{_checked(worker, 'worker')}.answers"


def _shared_quorum_queue(name: str, length: int, limits: Limits, **more: object) -> Queue:
    arguments = {
        **QUORUM,
        "x-single-active-consumer": True,
        "x-delivery-limit": limits.delivery_limit,
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": length,
    }
    return Queue(name, arguments={**arguments, **more})


def shared_items(limits: Limits = DEFAULT_LIMITS) -> list[Exchange | Queue | Binding]:
    """What every installation has once."""
    # A dead letter that a crashing manager takes back for ever must not be dropped, and their order says nothing.
    dead_arguments = {**QUORUM, "x-delivery-limit": -1, "x-overflow": "reject-publish", "x-max-length": limits.dead}
    dead = Queue(DEAD_QUEUE, arguments=dead_arguments)
    results = [_shared_quorum_queue(results_queue(shard), limits.results, limits) for shard in range(SHARDS)]
    return [COMMANDS, RESULTS, DEAD, dead, Binding(DEAD.name, DEAD_QUEUE), *results]


def cluster_items(
    cluster: str, epoch: int, partitions: int, limits: Limits = DEFAULT_LIMITS
) -> list[Exchange | Queue | Binding]:
    """What one epoch of one cluster adds: its command queues, and the ways of its results."""
    items: list[Exchange | Queue | Binding] = [answers_exchange(cluster)]
    for partition in range(partitions):
        shard = shard_of(cluster, partition)
        items.append(Binding(RESULTS.name, results_queue(shard), result_key(cluster, partition)))
    return [*items, *command_items(cluster, epoch, partitions, limits)]


def command_items(
    cluster: str, epoch: int, partitions: int, limits: Limits = DEFAULT_LIMITS
) -> list[Exchange | Queue | Binding]:
    """What belongs to one epoch of a cluster alone: its command queues with their bindings."""
    more = {"x-consumer-timeout": limits.consumer_timeout_seconds * 1000}
    items: list[Exchange | Queue | Binding] = []
    for partition in range(partitions):
        queue = command_queue(cluster, epoch, partition)
        items.append(_shared_quorum_queue(queue, limits.commands, limits, **more))
        items.append(Binding(COMMANDS.name, queue, command_key(cluster, epoch, partition)))
    return items


def answers_exchange(cluster: str) -> Exchange:
    """Where the answers to a cluster's workers go."""
    return Exchange(f"federation.answers:{cluster}", "direct")


def answers_items(cluster: str, worker: str, limits: Limits = DEFAULT_LIMITS) -> list[Exchange | Queue | Binding]:
    """What one worker declares for itself; it goes with the worker's connection."""
    name = answers_queue(cluster, worker)
    queue = Queue(name, durable=False, exclusive=True, auto_delete=True, arguments={"x-max-length": limits.answers})
    return [queue, Binding(answers_exchange(cluster).name, name, worker)]


def declare_shared(link: Link, limits: Limits = DEFAULT_LIMITS) -> None:
    """Declare what every installation has once; raises TopologyMismatch when it exists with other properties."""
    link.declare(shared_items(limits), _DECLARE_SECONDS)


def declare_cluster(link: Link, cluster: str, epoch: int, partitions: int, limits: Limits = DEFAULT_LIMITS) -> None:
    """Declare the queues of one epoch of a cluster; raises TopologyMismatch when one exists with other properties."""
    link.declare(cluster_items(cluster, epoch, partitions, limits), _DECLARE_SECONDS)


def retire_cluster(link: Link, cluster: str, epoch: int, partitions: int) -> None:
    """Delete the command queues of one epoch of a cluster, with whatever is left in them."""
    link.forget(cluster_items(cluster, epoch, partitions))
    delete_epoch(link, cluster, epoch, partitions)


def leave_epoch(link: Link, cluster: str, epoch: int, partitions: int) -> None:
    """Declare the command queues of an epoch no more after a reconnect; they stay on the broker."""
    link.forget(command_items(cluster, epoch, partitions))


def delete_epoch(link: Link, cluster: str, epoch: int, partitions: int) -> None:
    """Delete the command queues of one epoch, with whatever is left in them, and declare them no more."""
    leave_epoch(link, cluster, epoch, partitions)
    for partition in range(partitions):
        link.delete_queue(command_queue(cluster, epoch, partition))


def epoch_depth(link: Link, cluster: str, epoch: int, partitions: int) -> tuple[int, int]:
    """(ready messages, consumers) of all command queues of one epoch; those that are gone have none."""
    depths = [link.queue_depth(command_queue(cluster, epoch, partition)) for partition in range(partitions)]
    there = [depth for depth in depths if depth is not None]
    return sum(messages for messages, _ in there), sum(consumers for _, consumers in there)
