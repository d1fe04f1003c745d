"""A stranger on the broker: puts messages past our own code, with py-amqp, into any exchange or queue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import amqp
import msgpack

from federation.bus.topology import COMMANDS, DEAD, RESULTS, command_key, result_key
from federation.protocol.partition_map import partition_of

TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Stranger:
    """Speaks to the broker of an installation as any AMQP client could; ``cluster`` has ``partitions``."""

    url: str
    cluster: str
    partitions: int

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        address = urlsplit(self.url)
        connection = amqp.Connection(
            f"{address.hostname}:{address.port}",
            userid=address.username,
            password=address.password,
            virtual_host=address.path[1:],
            connect_timeout=TIMEOUT_SECONDS,
            confirm_publish=True,
        )
        connection.connect()
        try:
            yield connection.channel()
        finally:
            connection.close()

    def partition(self, key: str) -> int:
        return partition_of(key, self.partitions)

    def put(self, exchange: str, routing_key: str, body: bytes, headers: dict[str, Any]) -> None:
        """Publish; fails when the broker does not route or confirm it, for a test that reaches nothing proves nothing."""
        returned: list[object] = []
        with self.channel() as channel:
            channel.events["basic_return"].add(lambda *about: returned.append(about))
            message = amqp.Message(body, application_headers=headers, delivery_mode=2)
            channel.basic_publish_confirm(
                message, exchange, routing_key, mandatory=True, timeout=TIMEOUT_SECONDS, confirm_timeout=TIMEOUT_SECONDS
            )
        assert not returned, returned

    def put_command(self, partition: int, body: bytes, headers: dict[str, Any]) -> None:
        self.put(COMMANDS.name, command_key(self.cluster, 1, partition), body, headers)

    def put_result(self, partition: int, body: bytes, headers: dict[str, Any] | None = None) -> None:
        self.put(RESULTS.name, result_key(self.cluster, partition), body, headers or {})

    def put_dead(self, body: bytes, headers: dict[str, Any]) -> None:
        self.put(DEAD.name, "", body, headers)

    def depth(self, queue: str) -> int:
        """Messages that are ready."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    # Forgeries

    def headers(self, operation: dict[str, Any], /, **changed: Any) -> dict[str, Any]:
        """The headers of a copy of an accepted operation, some of them changed; None takes one away."""
        facts = {
            "operation": operation["id"],
            "name": operation["name"],
            "revision": operation["revision"],
            "release": operation["release"],
            "cluster": self.cluster,
            "epoch": 1,
            "partition": self.partition(operation["key"]),
            "key": operation["key"],
            "sequence": operation["sequence"],
            "round": operation["round"],
            "deadline": operation["deadline"],
            **changed,
        }
        return {f"federation-{name}": value for name, value in facts.items() if value is not None}


def body(method: str, arguments: Any, namespace: str = "federation.driver", version: Any = "1.0") -> bytes:
    """A body in the form of ours."""
    return bytes(msgpack.packb({"method": method, "args": arguments, "namespace": namespace, "version": version}))
