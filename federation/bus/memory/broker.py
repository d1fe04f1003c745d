"""The embedded broker: exchanges, bindings, queues, and the links that are connected to it.

One per process and name.  One lock guards everything; nothing of a user's runs under it (deliveries, confirms and
losses are handed to the links' own threads).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from federation.bus.errors import BrokerRefused, TopologyMismatch
from federation.bus.link import Binding, Exchange, Publication, PublishResult, Queue
from federation.bus.memory.arguments import first_difference
from federation.bus.memory.messages import DeadLetter, Message, copy_for_queue, publish_form
from federation.bus.memory.queue import Connection, Consumer, MemoryQueue
from federation.bus.memory.routing import EXCHANGE_KINDS, matches

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406


class MemoryBroker:
    """See the module; ``clock`` is monotonic seconds, replaceable in tests."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.RLock()
        self._exchanges: dict[str, Exchange] = {}
        self._bindings: dict[str, dict[Binding, None]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._connections: list[Connection] = []
        self._stranded: list[DeadLetter] = []
        self._due: float | None = None

    # -- connections and topology ------------------------------------------------------------------------------------

    def connect(self, connection: Connection) -> None:
        """A link joins."""
        with self._lock:
            self._connections.append(connection)

    def disconnect(self, connection: Connection, consumers: Sequence[Consumer]) -> None:
        """A link leaves, or its connection breaks: what its consumers hold goes back, its exclusive queues die."""
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)
            self.remove_consumers(consumers)
            for queue in [each for each in self._queues.values() if each.owner is connection]:
                self._delete(queue)

    def declare(self, connection: Connection, item: Exchange | Queue | Binding) -> None:
        """Declare one item; raises TopologyMismatch or BrokerRefused."""
        with self._lock:
            if isinstance(item, Exchange):
                self._declare_exchange(item)
            elif isinstance(item, Queue):
                self._declare_queue(connection, item)
            else:
                self._bind(connection, item)

    def _declare_exchange(self, item: Exchange) -> None:
        if item.kind not in EXCHANGE_KINDS:
            raise BrokerRefused(503, f"COMMAND_INVALID - unknown exchange type '{item.kind}'")
        current = self._exchanges.setdefault(item.name, item)
        self._bindings.setdefault(item.name, {})
        if current != item:
            raise TopologyMismatch(PRECONDITION_FAILED, f"inequivalent arg of exchange '{item.name}': it is {current}")

    def _declare_queue(self, connection: Connection, item: Queue) -> None:
        current = self._queues.get(item.name)
        if current is None:
            current = MemoryQueue(item, connection if item.exclusive else None, self._clock)
            self._queues[item.name] = current
            self._after(current)
            return
        self._check_owner(connection, current)
        difference = first_difference(current.declared, item)
        if difference is not None:
            raise TopologyMismatch(PRECONDITION_FAILED, f"{difference} of queue '{item.name}'")
        current.used_at = self._clock()

    def _bind(self, connection: Connection, item: Binding) -> None:
        self._check_owner(connection, self._find(item.queue))
        if item.exchange not in self._exchanges:
            raise BrokerRefused(NOT_FOUND, f"NOT_FOUND - no exchange '{item.exchange}'")
        self._bindings[item.exchange][item] = None
        self._carry([])

    def _find(self, name: str) -> MemoryQueue:
        queue = self._queues.get(name)
        if queue is None:
            raise BrokerRefused(NOT_FOUND, f"NOT_FOUND - no queue '{name}'")
        return queue

    @staticmethod
    def _check_owner(connection: Connection, queue: MemoryQueue) -> None:
        if queue.owner is not None and queue.owner is not connection:
            raise BrokerRefused(RESOURCE_LOCKED, f"RESOURCE_LOCKED - queue '{queue.declared.name}' is another's")

    def delete_queue(self, connection: Connection, name: str) -> None:
        """Delete a queue with what is in it; its consumers are told."""
        with self._lock:
            queue = self._queues.get(name)
            if queue is not None:
                self._check_owner(connection, queue)
                self._delete(queue)

    def _delete(self, queue: MemoryQueue) -> None:
        name = queue.declared.name
        del self._queues[name]
        for exchange, bindings in list(self._bindings.items()):
            for binding in [each for each in bindings if each.queue == name]:
                del bindings[binding]
            declared = self._exchanges[exchange]
            if declared.auto_delete and not bindings:
                del self._exchanges[exchange], self._bindings[exchange]
        for consumer in queue.consumers:
            consumer.connection.consumer_lost(consumer)

    def depth(self, connection: Connection, name: str) -> tuple[int, int] | None:
        """(ready messages, consumers) of a queue, None when there is none."""
        with self._lock:
            queue = self._queues.get(name)
            if queue is None:
                return None
            self._check_owner(connection, queue)
            queue.drop_expired()
            # RabbitMQ counts of a single-active-consumer queue's consumers only the active one.
            consumers = min(1, len(queue.consumers)) if queue.rules.single_active else len(queue.consumers)
            return queue.ready, consumers

    # -- messages ----------------------------------------------------------------------------------------------------

    def publish(self, connection: Connection, publication: Publication) -> PublishResult:
        """Route one publication; raises CannotEncode for headers without a wire form."""
        with self._lock:
            message = publish_form(publication, connection.user, self._clock())
            if publication.exchange not in self._exchanges:
                raise BrokerRefused(NOT_FOUND, f"NOT_FOUND - no exchange '{publication.exchange}'")
            targets = self._route(publication.exchange, publication.routing_key)
            if not targets:
                return PublishResult.RETURNED if publication.mandatory else PublishResult.CONFIRMED
            full = [queue for queue in targets if queue.is_full]
            for queue in targets:
                if not queue.is_full:
                    queue.put(copy_for_queue(message))
                    self._after(queue)
            return PublishResult.NACKED if full else PublishResult.CONFIRMED

    def _route(self, exchange: str, routing_key: str) -> list[MemoryQueue]:
        kind = self._exchanges[exchange].kind
        names = {each.queue: None for each in self._bindings[exchange] if matches(kind, each.routing_key, routing_key)}
        return [self._queues[name] for name in names]

    def add_consumer(self, connection: Connection, consumer: Consumer) -> None:
        """Start to consume; raises BrokerRefused."""
        with self._lock:
            consumption = consumer.consumption
            queue = self._find(consumption.queue)
            self._check_owner(connection, queue)
            exclusive = any(each.consumption.exclusive for each in queue.consumers)
            if queue.consumers and (consumption.exclusive or exclusive) and not queue.rules.quorum:
                raise BrokerRefused(ACCESS_REFUSED, f"ACCESS_REFUSED - queue '{consumption.queue}' in exclusive use")
            queue.add_consumer(consumer)
            self._after(queue)

    def remove_consumers(self, consumers: Sequence[Consumer]) -> None:
        """A channel closes: what its consumers hold goes back to its place."""
        with self._lock:
            by_queue: dict[str, list[Consumer]] = {}
            for consumer in consumers:
                by_queue.setdefault(consumer.consumption.queue, []).append(consumer)
            for name, gone in by_queue.items():
                queue = self._queues.get(name)
                if queue is not None:
                    queue.remove_consumers(gone)
                    self._delete_if_left(queue)
                    self._after(queue)

    def _delete_if_left(self, queue: MemoryQueue) -> None:
        if queue.declared.auto_delete and queue.had_consumer and not queue.consumers:
            self._delete(queue)

    def settle(self, consumer: Consumer, tag: int, *, reject: bool) -> None:
        """Acknowledge or reject one delivery."""
        with self._lock:
            queue = self._queues.get(consumer.consumption.queue)
            if queue is not None:
                queue.settle(consumer, tag, reject=reject)
                self._after(queue)

    # -- what time and death bring -----------------------------------------------------------------------------------

    def due_in(self) -> float | None:
        """Seconds until :meth:`tick` has something to do, None for never."""
        with self._lock:
            return None if self._due is None else max(0.0, self._due - self._clock())

    def tick(self) -> None:
        """Expire messages, queues and consumers whose time has come."""
        with self._lock:
            self._due = None
            for queue in list(self._queues.values()):
                if queue.has_outlived_itself:
                    self._delete(queue)
                    continue
                queue.drop_expired()
                for consumer in queue.overdue_consumers():
                    consumer.timed_out = True
                    reason = "PRECONDITION_FAILED - delivery acknowledgement on channel timed out"
                    consumer.connection.channel_lost(consumer, reason)
                self._after(queue)

    def _after(self, queue: MemoryQueue) -> None:
        """A queue was touched: carry away what died there, and note when it next needs a look."""
        if queue.dead or self._stranded:
            letters, queue.dead = queue.dead, []
            self._carry(letters)
        due = queue.next_due()
        if due is not None and (self._due is None or due < self._due):
            self._due = due
            for connection in self._connections:
                connection.alarm()

    def _carry(self, letters: list[DeadLetter]) -> None:
        waiting, self._stranded = self._stranded + letters, []
        for letter in waiting:
            self._bury(letter)

    def _bury(self, letter: DeadLetter) -> None:
        targets = self._route(letter.exchange, letter.routing_key) if letter.exchange in self._exchanges else []
        message = letter.message
        for queue in targets:
            # A queue that its own dead letters come back to by expiry alone is a cycle: RabbitMQ drops them, too.
            if letter.reason == "expired" and queue.declared.name == letter.queue:
                continue
            queue.put(
                Message(
                    msgspec.structs.replace(message.publication, expiration_seconds=None),
                    message.user_id,
                    letter.exchange,
                    letter.routing_key,
                    letter.headers,
                )
            )
            self._after(queue)
        if not targets:
            source = self._queues.get(letter.queue)
            if source is not None and source.rules.dead_letter_at_least_once:
                self._stranded.append(letter)


_brokers: dict[str, MemoryBroker] = {}
_brokers_lock = threading.Lock()


def broker_named(name: str) -> MemoryBroker:
    """The broker of this name in this process, made at the first call."""
    with _brokers_lock:
        broker = _brokers.get(name)
        if broker is None:
            broker = _brokers[name] = MemoryBroker(name)
        return broker
