"""One queue of the embedded broker: what is ready, who consumes, what each holds.

Everything here runs under the broker's lock.  Rules:

1. Ready messages leave by position; what is taken back returns to its own position, so order survives redelivery.
2. A consumer gets no more than its prefetch; among those with room the highest priority is served first.
3. With a single active consumer only that one is served.  A consumer of higher priority takes over once the active one
   holds nothing more (RabbitMQ ≥ 4.0, quorum queues); when the active one leaves, the highest priority follows.
4. Taken back by a lost channel counts as a failed delivery; above the delivery limit a message dies.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from federation.bus.link import Consumption, Delivery, Queue
from federation.bus.memory.arguments import QueueRules, read_rules
from federation.bus.memory.messages import DeadLetter, Message, dead_letter


@dataclass(eq=False, frozen=True, slots=True)
class Connection:
    """One link's connection: what the broker calls, under its lock, to tell that link's thread something.

    ``alarm`` says that something is due earlier than before; ``deliver`` hands a message over; ``consumer_lost`` says
    that the queue has gone; ``channel_lost`` that the consumer's whole channel has to close, and why.
    """

    user: str
    alarm: Callable[[], None]
    deliver: Callable[[Consumer, Delivery], None]
    consumer_lost: Callable[[Consumer], None]
    channel_lost: Callable[[Consumer, str], None]


@dataclass(eq=False, slots=True)
class Consumer:
    """One consumer of one queue; ``channel`` is what it belongs to, ``stamp`` tells its deliveries from others'."""

    consumption: Consumption
    prefetch: int
    connection: Connection
    channel: object
    stamp: int
    timed_out: bool = False
    held: dict[int, Message] = field(default_factory=dict)
    held_since: dict[int, float] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        """Whether it may get one more message."""
        return self.consumption.no_ack or not self.prefetch or len(self.held) < self.prefetch


class MemoryQueue:
    """See the module."""

    def __init__(self, declared: Queue, owner: Connection | None, clock: Callable[[], float]) -> None:
        self.declared = declared
        self.rules: QueueRules = read_rules(declared)
        self.owner = owner
        self.consumers: list[Consumer] = []
        self.active: Consumer | None = None
        self.had_consumer = False
        self.used_at = clock()
        self.dead: list[DeadLetter] = []
        """What died and waits to be carried to the dead-letter exchange by the broker."""
        self._clock = clock
        self._ready: list[tuple[int, Message]] = []
        self._positions = count(1)
        self._tags = count(1)
        self._turn = 0

    @property
    def ready(self) -> int:
        """How many messages wait."""
        return len(self._ready)

    @property
    def is_full(self) -> bool:
        """Whether a publication must be refused."""
        limit = self.rules.max_length
        return self.rules.reject_publish and limit is not None and len(self._ready) >= limit

    def put(self, message: Message) -> None:
        """Append one message and serve."""
        ttl = self.rules.message_ttl
        if ttl is not None:
            until = self._clock() + ttl
            message.expires_at = until if message.expires_at is None else min(until, message.expires_at)
        message.position = next(self._positions)
        heapq.heappush(self._ready, (message.position, message))
        self.serve()
        limit = self.rules.max_length
        while limit is not None and not self.rules.reject_publish and len(self._ready) > limit:
            self._bury(heapq.heappop(self._ready)[1], "maxlen")

    def add_consumer(self, consumer: Consumer) -> None:
        """A consumer joins."""
        self.had_consumer = True
        self.consumers.append(consumer)
        self.serve()

    def remove_consumers(self, gone: Iterable[Consumer]) -> None:
        """Consumers leave with their channel: what they hold returns to its place."""
        for consumer in gone:
            if consumer not in self.consumers:
                continue
            self.consumers.remove(consumer)
            if self.active is consumer:
                self.active = None
            for message in consumer.held.values():
                self._take_back(message)
            consumer.held.clear()
            consumer.held_since.clear()
        self.used_at = self._clock()
        self.serve()

    def settle(self, consumer: Consumer, tag: int, *, reject: bool) -> bool:
        """One delivery is acknowledged or rejected; False when the consumer does not hold it (any more)."""
        message = consumer.held.pop(tag, None)
        consumer.held_since.pop(tag, None)
        if message is None:
            return False
        if reject:
            self._bury(message, "rejected")
        self.serve()
        return True

    def serve(self) -> None:
        """Deliver what can be delivered."""
        self.drop_expired()
        while self._ready:
            consumer = self._next_consumer()
            if consumer is None:
                return
            self._deliver(heapq.heappop(self._ready)[1], consumer)
            self.drop_expired()

    def drop_expired(self) -> None:
        """Bury what has expired at the head (RabbitMQ looks there only)."""
        now = self._clock()
        while self._ready:
            expires_at = self._ready[0][1].expires_at
            if expires_at is None or expires_at > now:
                return
            self._bury(heapq.heappop(self._ready)[1], "expired")

    @property
    def has_outlived_itself(self) -> bool:
        """Whether nobody has used it for as long as it may stay unused."""
        expires = self.rules.expires
        return expires is not None and not self.consumers and self.used_at + expires <= self._clock()

    def next_due(self) -> float | None:
        """When time will next change something here."""
        due = []
        if self.rules.expires is not None and not self.consumers:
            due.append(self.used_at + self.rules.expires)
        if self._ready and self._ready[0][1].expires_at is not None:
            due.append(self._ready[0][1].expires_at)
        if self.rules.consumer_timeout is not None:
            held = [min(each.held_since.values()) for each in self.consumers if each.held_since and not each.timed_out]
            due += [at + self.rules.consumer_timeout for at in held]
        return min(due, default=None)

    def overdue_consumers(self) -> list[Consumer]:
        """Consumers that have held a message longer than the consumer timeout."""
        timeout = self.rules.consumer_timeout
        if timeout is None:
            return []
        oldest = self._clock() - timeout
        return [
            each
            for each in self.consumers
            if not each.timed_out and each.held_since and min(each.held_since.values()) <= oldest
        ]

    def _next_consumer(self) -> Consumer | None:
        if self.rules.single_active:
            active = self._choose_active()
            return active if active is not None and active.has_room else None
        free = [each for each in self.consumers if each.has_room]
        if not free:
            return None
        highest = max(each.consumption.priority for each in free)
        served = [each for each in free if each.consumption.priority == highest]
        self._turn += 1
        return served[self._turn % len(served)]

    def _choose_active(self) -> Consumer | None:
        best = max(self.consumers, key=lambda each: each.consumption.priority, default=None)
        active = self.active
        if active is None:
            self.active = best
        elif best is not None and self.rules.quorum and best.consumption.priority > active.consumption.priority:
            if active.held:
                return None  # the old one gets nothing more until it has settled what it holds
            self.active = best
        return self.active

    def _deliver(self, message: Message, consumer: Consumer) -> None:
        tag = next(self._tags)
        if not consumer.consumption.no_ack:
            consumer.held[tag] = message
            consumer.held_since[tag] = self._clock()
        name = self.declared.name
        consumer.connection.deliver(consumer, message.delivery(name, (consumer.stamp, tag), counts=self.rules.quorum))

    def _take_back(self, message: Message) -> None:
        message.redelivered = True
        if self.rules.quorum:
            message.delivery_count += 1
            limit = self.rules.delivery_limit
            if limit is not None and message.delivery_count > limit:
                self._bury(message, "delivery_limit")
                return
        heapq.heappush(self._ready, (message.position, message))

    def _bury(self, message: Message, reason: str) -> None:
        exchange = self.rules.dead_letter_exchange
        if exchange is not None:
            name = self.declared.name
            self.dead.append(dead_letter(message, reason, name, exchange, self.rules.dead_letter_key))
