"""What workers say on the ordered results queues: the worker's sender, the manager's consumer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.bus.envelope_codec import decode_result, encode_result
from federation.bus.errors import BadMessage, BodyTooLarge
from federation.bus.link import Consumption, Delivery, Link, PublishResult
from federation.bus.settling import Settler
from federation.bus.topology import results_queue
from federation.protocol.envelope import Progress, Question, Report, Result
from federation.protocol.partition_map import SHARDS, consumer_priority

DEFAULT_PREFETCH = 64


class ResultSender:
    """A worker's way to the manager.  All methods raise BusOverloaded, BodyTooLarge, CannotEncode or LinkClosed."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def ask(self, question: Question, on_settled: Callable[[PublishResult], None] | None = None) -> None:
        """Send a question; it may be lost (the worker asks again), unless one asks what became of it."""
        self._link.publish(encode_result(question), on_settled)

    def report(self, report: Report, on_settled: Callable[[PublishResult], None]) -> None:
        """Publish an outcome; ``on_settled`` is called once, on the link's thread."""
        self._link.publish(encode_result(report), on_settled)

    def progress(self, progress: Progress) -> None:
        """Send how far it is; it may be lost."""
        self._link.publish(encode_result(progress))


@dataclass(frozen=True, slots=True)
class HeldResult:
    """A message of a results queue that waits to be settled; ``error`` says why there is no ``result``."""

    result: Result | None
    delivery: Delivery
    shard: int
    error: str | None
    user_id: str | None


class ResultsConsumer:
    """Consumes all results queues on one channel, each with this manager's rendezvous priority.

    ``on_result`` and ``on_lost(reason, queue)`` are called on the link's thread and must return at once.
    """

    def __init__(
        self,
        link: Link,
        manager_id: str,
        on_result: Callable[[HeldResult], None],
        on_lost: Callable[[str, str | None], None],
        prefetch: int = DEFAULT_PREFETCH,
    ) -> None:
        self._link = link
        self._manager_id = manager_id
        self._on_result = on_result
        self._on_lost = on_lost
        self._prefetch = prefetch
        self._shards = {results_queue(shard): shard for shard in range(SHARDS)}
        self._settler = Settler()

    def start(self, timeout: float = 60.0) -> None:
        """Consume; raises BrokerRefused when a results queue is missing or forbidden."""
        wishes = [Consumption(queue, consumer_priority(self._manager_id, queue)) for queue in self._shards]
        subscription = self._link.subscribe(wishes, self._prefetch, self._deliver, self._on_lost, timeout)
        self._settler.attach(subscription)

    def ack(self, held: HeldResult) -> None:
        """Acknowledge; nothing happens when its channel has gone."""
        self._settler.ack(held.delivery)

    def reject(self, held: HeldResult) -> None:
        """Dead-letter; nothing happens when its channel has gone."""
        self._settler.reject(held.delivery)

    def close(self, timeout: float) -> None:
        """Send the settlings that wait, then close the channel: what is held goes back in order."""
        self._settler.close(timeout)

    def _deliver(self, delivery: Delivery) -> None:
        result: Result | None = None
        error: str | None = None
        try:
            result = decode_result(delivery)
        except (BadMessage, BodyTooLarge) as refusal:
            error = str(refusal)
        self._on_result(HeldResult(result, delivery, self._shards[delivery.queue], error, delivery.user_id))
