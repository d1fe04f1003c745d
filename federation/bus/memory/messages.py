"""What the embedded broker moves around, and where it puts what dies."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from federation.bus.field_table import decode_table, encode_table
from federation.bus.link import Delivery, Publication


@dataclass(slots=True)
class Message:
    """One message in one queue; ``position`` keeps its place there when it is taken back."""

    publication: Publication
    user_id: str
    exchange: str
    routing_key: str
    headers: dict[str, Any]
    expires_at: float | None = None
    position: int = 0
    delivery_count: int = 0
    redelivered: bool = False

    def delivery(self, queue: str, tag: object, *, counts: bool) -> Delivery:
        """How a consumer sees it; ``counts`` adds ``x-delivery-count`` as a quorum queue does."""
        headers = dict(self.headers)
        if counts and self.delivery_count:
            headers["x-delivery-count"] = self.delivery_count
        publication = self.publication
        return Delivery(
            queue=queue,
            tag=tag,
            body=publication.body,
            exchange=self.exchange,
            routing_key=self.routing_key,
            headers=headers,
            message_id=publication.message_id,
            correlation_id=publication.correlation_id,
            reply_to=publication.reply_to,
            user_id=self.user_id,
            content_type=publication.content_type,
            redelivered=self.redelivered,
            delivery_count=self.delivery_count if counts else int(self.redelivered),
        )


@dataclass(slots=True)
class DeadLetter:
    """A message on its way from a queue to that queue's dead-letter exchange."""

    message: Message
    reason: str
    queue: str
    exchange: str
    routing_key: str
    headers: dict[str, Any] = field(default_factory=dict)


def publish_form(publication: Publication, user_id: str, now: float) -> Message:
    """The message of a publication, its headers as they would come off the wire; raises CannotEncode."""
    headers = decode_table(encode_table(publication.headers), 0)[0]
    seconds = publication.expiration_seconds
    return Message(
        publication,
        user_id,
        publication.exchange,
        publication.routing_key,
        headers,
        expires_at=None if seconds is None else now + seconds,
    )


def copy_for_queue(message: Message) -> Message:
    """A copy of its own for one more queue."""
    return Message(
        message.publication,
        message.user_id,
        message.exchange,
        message.routing_key,
        message.headers,
        expires_at=message.expires_at,
    )


def dead_letter(message: Message, reason: str, queue: str, exchange: str, routing_key: str | None) -> DeadLetter:
    """A dead letter with RabbitMQ's ``x-death`` bookkeeping (https://www.rabbitmq.com/docs/dlx#effects)."""
    headers = dict(message.headers)
    deaths = [dict(death) for death in headers.get("x-death", [])]
    for death in deaths:
        if death["queue"] == queue and death["reason"] == reason:
            death["count"] += 1
            deaths.remove(death)
            deaths.insert(0, death)
            break
    else:
        deaths.insert(
            0,
            {
                "queue": queue,
                "reason": reason,
                "count": 1,
                "exchange": message.exchange,
                "routing-keys": [message.routing_key],
                "time": int(time.time()),
            },
        )
    headers["x-death"] = deaths
    headers.setdefault("x-first-death-queue", queue)
    headers.setdefault("x-first-death-reason", reason)
    headers.setdefault("x-first-death-exchange", message.exchange)
    headers["x-last-death-queue"] = queue
    headers["x-last-death-reason"] = reason
    headers["x-last-death-exchange"] = message.exchange
    key = message.routing_key if routing_key is None else routing_key
    return DeadLetter(message, reason, queue, exchange, key, headers)
