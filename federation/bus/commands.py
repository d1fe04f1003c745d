"""Commands on their ordered way: the manager's publisher, the worker's consumer of a cluster's partitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.bus.envelope_codec import decode_command, encode_command
from federation.bus.link import Consumption, Delivery, Link, PublishResult
from federation.bus.settling import Settler
from federation.bus.topology import command_queue
from federation.protocol.envelope import Command
from federation.protocol.partition_map import consumer_priority

DEFAULT_PREFETCH = 16


class CommandPublisher:
    """Publishes commands, pipelined and confirmed."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def publish(self, command: Command, on_settled: Callable[[PublishResult], None]) -> None:
        """Send one copy; ``on_settled`` is called once, on the link's thread, with what became of it.

        Raises BusOverloaded, BodyTooLarge, CannotEncode or LinkClosed, and then ``on_settled`` is not called.
        """
        self._link.publish(encode_command(command), on_settled)


@dataclass(frozen=True, slots=True)
class HeldCommand:
    """A command that waits to be settled.

    ``error`` says what is wrong with the message; with unusable headers there is no ``command`` at all.
    """

    command: Command | None
    delivery: Delivery
    partition: int
    delivery_count: int
    error: str | None


class CommandConsumer:
    """Consumes all partitions of one epoch of a cluster on one channel, each with this worker's rendezvous priority.

    ``on_command`` and ``on_lost`` are called on the link's thread and must return at once.  ``on_lost(reason,
    partition)`` says that what is held of one partition (or, with None, of all) is void; the consumer is set up again
    by itself.
    """

    def __init__(  # noqa: PLR0913  # the shape agreed with the worker's port
        self,
        link: Link,
        cluster: str,
        epoch: int,
        partitions: int,
        worker_id: str,
        prefetch: int,
        on_command: Callable[[HeldCommand], None],
        on_lost: Callable[[str, int | None], None],
    ) -> None:
        self._link = link
        self._home = (cluster, epoch)
        self._queues = {command_queue(cluster, epoch, partition): partition for partition in range(partitions)}
        self._worker_id = worker_id
        self._prefetch = prefetch
        self._on_command = on_command
        self._on_lost = on_lost
        self._settler = Settler()

    def start(self, timeout: float = 60.0) -> None:
        """Consume; raises BrokerRefused when a partition's queue is missing or forbidden."""
        wishes = [
            Consumption(queue, consumer_priority(self._worker_id, queue), reader=self._worker_id)
            for queue in self._queues
        ]
        subscription = self._link.subscribe(wishes, self._prefetch, self._deliver, self._lost, timeout)
        self._settler.attach(subscription)

    def ack(self, held: HeldCommand) -> None:
        """Acknowledge; nothing happens when its channel has gone."""
        self._settler.ack(held.delivery)

    def reject(self, held: HeldCommand) -> None:
        """Dead-letter; nothing happens when its channel has gone."""
        self._settler.reject(held.delivery)

    def close(self, timeout: float) -> None:
        """Send the settlings that wait, then close the channel: what is held goes back in order (DESIGN 6.5.2)."""
        self._settler.close(timeout)

    def _deliver(self, delivery: Delivery) -> None:
        partition = self._queues[delivery.queue]
        command, error = decode_command(delivery)
        if command is not None and (command.cluster, command.epoch, command.partition) != (*self._home, partition):
            error = (
                f"a command for cluster {command.cluster!r}, epoch {command.epoch}, partition {command.partition} "
                f"stands in {delivery.queue}"
            )
            command = None
        self._on_command(HeldCommand(command, delivery, partition, delivery.delivery_count, error))

    def _lost(self, reason: str, queue: str | None) -> None:
        self._on_lost(reason, None if queue is None else self._queues[queue])
