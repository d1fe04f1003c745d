"""What one link declared: done once at the caller's wish, and again after every reconnect.

Everything here runs on the I/O thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from federation.bus.amqp.wire import Limited, Wire, WireChannel, on_fresh_channel
from federation.bus.errors import BrokerRefused, BusError, BusTimeout
from federation.bus.link import Binding, Exchange, Queue

LOG = logging.getLogger(__name__)
Item = Exchange | Queue | Binding
NOT_FOUND = 404
RESOURCE_LOCKED = 405
"""An exclusive queue of our own last connection, which the broker has not yet buried; or another's."""
_SILENCE_SECONDS = 10.0
"""How long the broker may think about one batch (a queue without a leader never answers)."""


class Declarations:
    """The remembered topology of one link, in the order of declaration."""

    def __init__(self) -> None:
        self._items: dict[Item | tuple[str, str], Item] = {}
        self.to_repair: list[Item] = []
        """What could not be declared again after a reconnect, but may be soon."""

    def declare(self, wire: Wire, items: Sequence[Item]) -> None:
        """Declare all, then remember; raises TopologyMismatch or BrokerRefused and remembers nothing."""
        on_fresh_channel(wire, partial(_declare_all, items=items))
        for item in items:
            self._items[_identity(item)] = item

    def forget(self, items: Iterable[Item]) -> None:
        """Declare these no more."""
        for item in items:
            self._items.pop(_identity(item), None)

    def forget_queue(self, name: str) -> None:
        """Declare a queue and its bindings no more."""
        self.forget([item for item in list(self._items.values()) if _names_queue(item, name)])

    def restore(self, wire: Wire, limited: Limited) -> None:
        """Declare everything again; what fails is reported, and kept in ``to_repair`` when another attempt may help."""
        self.to_repair = []
        self._declare_what_can_be(wire, limited, list(self._items.values()))

    def repair(self, wire: Wire, limited: Limited) -> None:
        """Try again what could not be restored."""
        failed, self.to_repair = self.to_repair, []
        self._declare_what_can_be(wire, limited, failed)

    def see_to_exclusive_queues(self, wire: Wire, limited: Limited) -> None:
        """Bind our exclusive queues once more; raises BusError when one is gone, for its consumers are then, too.

        A node of the broker that is found dead is buried by the others with its exclusive queues, and then their bindings, by
        name.  A queue of that name that was declared and bound meanwhile loses its bindings, or all that leads to it, while
        its consumer stands and is told nothing.
        """
        names = {item.name for item in self._items.values() if isinstance(item, Queue) and item.exclusive}
        bindings = [item for item in self._items.values() if isinstance(item, Binding) and item.queue in names]

        def look(channel: WireChannel) -> None:
            for name in names:
                channel.queue_declare(name, passive=True)
            _declare_all(channel, bindings)

        try:
            with limited(_SILENCE_SECONDS):
                on_fresh_channel(wire, look)
        except (BrokerRefused, BusTimeout) as error:
            if isinstance(error, BrokerRefused) and error.code == NOT_FOUND:
                raise BusError(f"the broker has buried a queue of this connection: {error}") from error
            LOG.warning("exclusive queues cannot be bound again for now: %s", error)
            self.to_repair.extend(bindings)

    def _declare_what_can_be(self, wire: Wire, limited: Limited, items: Sequence[Item]) -> None:
        """All at once; on a refusal or silence, halves, down to the item at fault."""
        try:
            with limited(_SILENCE_SECONDS):
                on_fresh_channel(wire, partial(_declare_all, items=items))
        except (BrokerRefused, BusTimeout) as error:
            if len(items) > 1:
                middle = len(items) // 2
                self._declare_what_can_be(wire, limited, items[:middle])
                self._declare_what_can_be(wire, limited, items[middle:])
            elif isinstance(error, BusTimeout) or error.code in {RESOURCE_LOCKED, NOT_FOUND}:
                LOG.warning("%s cannot be declared yet: %s", items[0], error)
                self.to_repair.append(items[0])
            else:
                LOG.error("%s cannot be declared again after the reconnect: %s", items[0], error)  # noqa: TRY400  # expected

    def stand_up_queue(self, wire: Wire, name: str) -> None:
        """Make sure that a queue exists: declared by us, declare it again with its bindings; otherwise look.

        Raises BrokerRefused when it is not there.
        """
        ours = [item for item in list(self._items.values()) if _names_queue(item, name)]
        if any(isinstance(item, Queue) for item in ours):
            on_fresh_channel(wire, partial(_declare_all, items=ours))
        else:
            on_fresh_channel(wire, lambda channel: channel.queue_declare(name, passive=True))


def _identity(item: Item) -> Item | tuple[str, str]:
    if isinstance(item, Binding):
        return item
    return type(item).__name__, item.name


def _names_queue(item: Item, name: str) -> bool:
    return (isinstance(item, Queue) and item.name == name) or (isinstance(item, Binding) and item.queue == name)


def _declare_all(channel: WireChannel, items: Sequence[Item]) -> None:
    for item in items:
        if isinstance(item, Exchange):
            channel.exchange_declare(item.name, item.kind, durable=item.durable, auto_delete=item.auto_delete)
        elif isinstance(item, Queue):
            channel.queue_declare(
                item.name,
                durable=item.durable,
                exclusive=item.exclusive,
                auto_delete=item.auto_delete,
                arguments=dict(item.arguments),
            )
        else:
            channel.queue_bind(item.queue, item.exchange, item.routing_key)


def queue_depth(wire: Wire, name: str) -> tuple[int, int] | None:
    """(ready messages, consumers) of a queue, or None when there is none."""
    try:
        answer = on_fresh_channel(wire, lambda channel: channel.queue_declare(name, passive=True))
    except BrokerRefused as error:
        if error.code == NOT_FOUND:
            return None
        raise
    return int(answer.message_count), int(answer.consumer_count)


def delete_queue(wire: Wire, name: str) -> None:
    """Delete a queue; RabbitMQ answers the same when there is none."""
    on_fresh_channel(wire, lambda channel: channel.queue_delete(name))
