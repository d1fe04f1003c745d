"""The yardstick: what RabbitMQ and py-amqp allow, with nothing around them.

One thread per process, one connection, pipelined confirms on both sides, the ordered queues' arguments; no reconnecting,
no timeouts of calls, no dispatching.  A client's "callers" are requests that it keeps under way at the same time.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import amqp
import msgpack
from amqp import spec

if TYPE_CHECKING:
    from contestants import Load, Measured

_REPLIES = "bench.bare.replies"
_PREFETCH = 16


def _connect(url: str) -> amqp.Connection:
    parts = urlsplit(url)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port}",
        userid=parts.username,
        password=unquote(parts.password or ""),
        virtual_host=unquote(parts.path[1:]) or "/",
        connect_timeout=10,
        read_timeout=120,
        write_timeout=30,
    )
    connection.connect()
    return connection


def _publish(channel: amqp.Channel, message: amqp.Message, exchange: str, routing_key: str) -> None:
    """Mandatory, and without py-amqp's own ``basic_publish``, which reads before it writes and so calls itself back."""
    channel.send_method(spec.Basic.Publish, "Bssbb", (0, exchange, routing_key, True, False), message)


def _declare(channel: amqp.Channel, topic: str, partitions: int) -> list[str]:
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": 50,
        "x-max-length": 100_000,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "bench.bare.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-consumer-timeout": 4 * 3600 * 1000,
    }
    exchange = f"bench.bare.{topic}"
    channel.exchange_declare(exchange, "direct", durable=True, auto_delete=False)
    channel.exchange_declare(_REPLIES, "direct", durable=True, auto_delete=False)
    channel.exchange_declare("bench.bare.dead", "fanout", durable=True, auto_delete=False)
    queues = []
    for number in range(partitions):
        queue = f"{exchange}.{number}"
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(queue, exchange, str(number))
        queues.append(queue)
    return queues


class BareServer:
    """Answers every request and acknowledges it."""

    def __init__(self, url: str, topic: str, partitions: int, _payload: dict[str, Any]) -> None:
        self.handled = 0
        self._connection = _connect(url)
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        self._channel.basic_qos(0, _PREFETCH, False)  # noqa: FBT003  # AMQP's global bit
        for queue in _declare(self._channel, topic, partitions):
            self._channel.basic_consume(queue, callback=self._on_request)
        self._ending = False
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _on_request(self, message: amqp.Message) -> None:
        payload = msgpack.unpackb(message.body)
        self.handled += 1
        properties = message.properties
        if "reply_to" in properties:
            reply = amqp.Message(msgpack.packb(payload), correlation_id=properties["correlation_id"], delivery_mode=1)
            _publish(self._channel, reply, _REPLIES, properties["reply_to"])
        self._channel.basic_ack(message.delivery_tag)

    def _loop(self) -> None:
        while not self._ending:
            try:
                self._connection.drain_events(timeout=0.5)
            except TimeoutError:
                continue

    def close(self) -> None:
        """Disconnect."""
        self._ending = True
        self._thread.join(5)
        self._connection.close()


class BareClient:
    """Keeps so many requests under way."""

    def __init__(self, url: str, topic: str, partitions: int, payload: dict[str, Any]) -> None:
        self._connection = _connect(url)
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        self._exchange = f"bench.bare.{topic}"
        self._partitions = partitions
        self._payload = payload
        self._reply_to = f"{_REPLIES}.{uuid.uuid4().hex}"
        _declare(self._channel, topic, partitions)
        self._channel.queue_declare(self._reply_to, exclusive=True, durable=False)
        self._channel.queue_bind(self._reply_to, _REPLIES, self._reply_to)
        self._channel.basic_consume(self._reply_to, no_ack=True, callback=self._on_reply)
        self._channel.events["basic_ack"].add(self._on_confirm)
        self._on_done: Callable[[int], None] = lambda _: None
        self._call = True
        self._next_tag = 1
        self._sent: dict[int, tuple[float, int]] = {}

    def run(self, load: Load) -> Measured:
        """Until the time is up and all under way is done."""
        from contestants import Measured  # noqa: PLC0415  # it imports this module

        self._call = load.how == "call"
        latencies: list[float] = []
        sent = self._sent
        began = time.perf_counter()
        end = began + load.seconds

        def send(caller: int) -> None:
            sent[self._next_tag] = (time.perf_counter(), caller)
            self._publish(caller)

        def done(tag: int) -> None:
            at, caller = sent.pop(tag)
            now = time.perf_counter()
            latencies.append(now - at)
            if now < end:
                send(caller)

        self._on_done = done
        for caller in range(load.callers):
            send(caller)
        while sent:
            self._connection.drain_events(timeout=60)
        return Measured(latencies, time.perf_counter() - began)

    def _publish(self, caller: int) -> None:
        tag = self._next_tag
        self._next_tag += 1
        properties: dict[str, Any] = {"delivery_mode": 2}
        if self._call:
            properties |= {"correlation_id": str(tag), "reply_to": self._reply_to}
        message = amqp.Message(msgpack.packb(self._payload), **properties)
        _publish(self._channel, message, self._exchange, str(caller % self._partitions))

    def _on_reply(self, message: amqp.Message) -> None:
        msgpack.unpackb(message.body)
        self._on_done(int(message.properties["correlation_id"]))

    def _on_confirm(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  # py-amqp's callback
        if self._call:
            return
        for each in [each for each in self._sent if each <= tag] if multiple else [tag]:
            if each in self._sent:  # else it was a call, long answered
                self._on_done(each)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
