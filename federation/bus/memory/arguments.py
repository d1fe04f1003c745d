"""The arguments of a queue that the embedded broker understands, read and checked at the declaration.

Their meanings are RabbitMQ's (https://www.rabbitmq.com/docs/queues and …/quorum-queues).  Arguments that only say
what happens between nodes (leader locator, group size, disconnected consumers) are legal and change nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from federation.bus.errors import BrokerRefused
from federation.bus.link import Queue

QUORUM_DELIVERY_LIMIT = 20
"""RabbitMQ 4's own limit for a quorum queue that names none."""
_PRECONDITION_FAILED = 406
_WITHOUT_EFFECT_HERE = frozenset(
    {
        "x-queue-leader-locator",
        "x-quorum-initial-group-size",
        "x-quorum-target-group-size",
        "x-queue-mode",
        "x-consumer-disconnected-timeout",
    }
)


@dataclass(frozen=True, slots=True)
class QueueRules:
    """How a queue behaves; durations in seconds, None is no limit."""

    quorum: bool
    single_active: bool
    delivery_limit: int | None
    max_length: int | None
    reject_publish: bool
    message_ttl: float | None
    expires: float | None
    dead_letter_exchange: str | None
    dead_letter_key: str | None
    dead_letter_at_least_once: bool
    consumer_timeout: float | None


class _Reader:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue.name
        self.left: dict[str, object] = dict(queue.arguments)

    def refuse(self, reason: str) -> BrokerRefused:
        return BrokerRefused(_PRECONDITION_FAILED, f"PRECONDITION_FAILED - {reason} for queue '{self.queue}'")

    def text(self, name: str) -> str | None:
        value = self.left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise self.refuse(f"argument {name} must be a string, not {value!r}")
        return value

    def choice(self, name: str, default: str, others: tuple[str, ...]) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value != default and value not in others:
            raise self.refuse(f"argument {name} cannot be {value!r}")
        return value

    def number(self, name: str, lowest: int = 0) -> int | None:
        value = self.left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise self.refuse(f"argument {name} cannot be {value!r}")
        return value

    def milliseconds(self, name: str, lowest: int = 0) -> float | None:
        value = self.number(name, lowest)
        return None if value is None else value / 1000

    def flag(self, name: str) -> bool:
        value = self.left.pop(name, False)
        if not isinstance(value, bool):
            raise self.refuse(f"argument {name} must be a boolean, not {value!r}")
        return value


def read_rules(queue: Queue) -> QueueRules:
    """The rules of a declaration; raises BrokerRefused as RabbitMQ does for combinations that it does not have."""
    read = _Reader(queue)
    quorum = read.choice("x-queue-type", "classic", ("quorum",)) == "quorum"
    if quorum and (queue.exclusive or queue.auto_delete or not queue.durable):
        raise read.refuse("a quorum queue is durable, not exclusive and not auto-delete: invalid property")
    limit = read.number("x-delivery-limit", -1)
    if limit is None and quorum:
        limit = QUORUM_DELIVERY_LIMIT
    rules = QueueRules(
        quorum=quorum,
        single_active=read.flag("x-single-active-consumer"),
        delivery_limit=None if limit is None or limit < 0 or not quorum else limit,
        max_length=read.number("x-max-length"),
        reject_publish=read.choice("x-overflow", "drop-head", ("reject-publish",)) == "reject-publish",
        message_ttl=read.milliseconds("x-message-ttl"),
        expires=read.milliseconds("x-expires", 1),
        dead_letter_exchange=read.text("x-dead-letter-exchange"),
        dead_letter_key=read.text("x-dead-letter-routing-key"),
        dead_letter_at_least_once=read.choice("x-dead-letter-strategy", "at-most-once", ("at-least-once",))
        == "at-least-once",
        consumer_timeout=read.milliseconds("x-consumer-timeout", 1),
    )
    unknown = set(read.left) - _WITHOUT_EFFECT_HERE
    if unknown:
        raise read.refuse(f"the embedded broker does not know the argument {', '.join(sorted(unknown))}")
    return rules


def first_difference(current: Queue, wanted: Queue) -> str | None:
    """In words, what a new declaration of an existing queue asks differently."""
    for name in ("durable", "exclusive", "auto_delete"):
        if getattr(current, name) != getattr(wanted, name):
            return (
                f"inequivalent arg '{name}': received {getattr(wanted, name)} but current is {getattr(current, name)}"
            )
    return _different_argument(current.arguments, wanted.arguments)


def _different_argument(current: Mapping[str, object], wanted: Mapping[str, object]) -> str | None:
    for name in sorted({*current, *wanted}):
        if current.get(name) != wanted.get(name):
            return f"inequivalent arg '{name}': received {wanted.get(name)!r} but current is {current.get(name)!r}"
    return None
