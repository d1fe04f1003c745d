"""What each broker user may do: RabbitMQ's permissions for one worker and for one manager.

RabbitMQ checks three regular expressions of a user (configure, write, read) against the names of queues and exchanges,
and two more (write, read) against the routing keys of a topic exchange, at publishing and at binding
(https://www.rabbitmq.com/docs/access-control).  Rules:

1. A worker may configure its own queues only.  It reads its own queues, its cluster's partitions and its cluster's
   queries; it publishes outcomes under its cluster's routing keys, calls admission, and replies to managers.
2. The exchanges that it binds its queues to are its cluster's or carry nothing but replies to callers whose queues it
   cannot name; the exchanges that it publishes to carry nothing of another cluster, or check its routing keys.
3. A manager may use all that managers share, and its own queues, but not another manager's.
4. Nobody has the default exchange, whose name no expression here matches.

What a dead-letter exchange is declared with needs ``write`` on that exchange and ``read`` on the queue itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from federation.bus import topology
from federation.bus.oslo import routes
from federation.bus.oslo.options import DriverOptions
from federation.bus.rpc import CALLS

NOTHING = "^$"
_SOURCES = routes.Sources(DriverOptions())
_PARTITION = r"\.e[0-9]+\.p[0-9]+"


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """Routing keys of one topic exchange."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class Permissions:
    """All that one user may do in one virtual host, as regular expressions."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicPermission, ...]


@dataclass(frozen=True, slots=True)
class Doors:
    """The topics of remote calls, and how the names of queues begin that belong to one process."""

    own_prefix: str
    queries: str
    admission: str


def worker_permissions(cluster: str, worker: str, doors: Doors) -> Permissions:
    """A worker's; raises ValueError for a name that cannot be one."""
    answers = _exactly(topology.answers_queue(cluster, worker))
    private = f"{re.escape(doors.own_prefix)}:.+"
    server = _exactly(_SOURCES.server(doors.queries, CALLS, worker).queue)
    own = [answers, private, server]
    queried, admission = routes.rpc_exchange(doors.queries).name, routes.rpc_exchange(doors.admission).name
    publishes = [
        topology.RESULTS.name,
        admission,
        routes.replies_exchange(queried).name,
        routes.DEAD.name,
    ]
    reads = [
        topology.answers_exchange(cluster).name,
        routes.replies_exchange(admission).name,
        queried,
        _SOURCES.topic(doors.queries, CALLS).queue,
    ]
    partitions = rf"federation\.{re.escape(cluster)}{_PARTITION}"
    return Permissions(
        configure=_any(own),
        write=_any([*own, *map(_exactly, publishes)]),
        read=_any([*own, *map(_exactly, reads), partitions]),
        topics=(TopicPermission(topology.RESULTS.name, _any([rf"outcome\.{re.escape(cluster)}\.[0-9]+"]), NOTHING),),
    )


def manager_permissions(own_prefix: str) -> Permissions:
    """A manager's."""
    shared = [topology.COMMANDS.name, topology.RESULTS.name, topology.DEAD.name, routes.DEAD.name, routes.DEAD_QUEUE]
    private = f"{re.escape(own_prefix)}:.+"
    everything = _any(
        [
            *map(_exactly, shared),
            r"federation\.results\.[0-9]+",
            r"federation\.(rpc|replies|answers):.+",
            rf"federation\.[A-Za-z0-9_.-]+{_PARTITION}",
            private,
        ]
    )
    return Permissions(everything, everything, everything, ())


def _exactly(name: str) -> str:
    return re.escape(name)


def _any(expressions: Iterable[str]) -> str:
    return f"^({'|'.join(expressions)})$"
