"""The driver that oslo.messaging loads for ``federation://`` and ``federation+memory://``."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import msgspec
from oslo_config import cfg
from oslo_messaging._drivers import base

from federation.bus.link import Binding, Exchange, Link, Publication, Queue
from federation.bus.oslo import body, routes
from federation.bus.oslo.notification_listener import NotificationListener, NotificationReception
from federation.bus.oslo.options import read_options
from federation.bus.oslo.reply_sender import ReplySender
from federation.bus.oslo.rpc_listener import Reception, RpcListener, RpcSources
from federation.bus.oslo.sending import Effort
from federation.bus.oslo.shared_link import demanded
from federation.bus.oslo.station import Station
from federation.protocol.partition_map import partition_of

_UNNAMED_EXCHANGE = "openstack"
"""oslo.messaging's own default of ``control_exchange``."""


class FederationDriver(base.BaseDriver):  # type: ignore[misc]  # oslo.messaging has no types
    """See oslo.messaging's BaseDriver, which documents every method and parameter."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: Any,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._address, self._options = read_options(conf, url)
        self._sources = routes.Sources(self._options)
        self._limit_bytes = self._address.options.max_body_bytes
        hosts = max(1, len(self._address.endpoints))
        self._connect_seconds = self._address.options.connect_timeout * hosts
        self._making = threading.Lock()
        self._station: Station | None = None

    def require_features(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002  # oslo.messaging's signature
        """Everything that oslo.messaging can ask for is there: notifications can be requeued."""

    def send(  # noqa: PLR0913  # oslo.messaging's signature
        self,
        target: Any,
        ctxt: Any,
        message: dict[str, Any],
        wait_for_reply: bool | None = None,  # noqa: FBT001
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """Send an RPC request and, if asked, wait for its reply."""
        key = body.ordering_key(ctxt) if self._options.partitions else None
        route = self._route(target, key)
        at_least_once = _at_least_once(transport_options)
        in_partition = key is not None and not target.server and not target.fanout
        effort = Effort(
            retry,
            None if timeout is None else time.monotonic() + timeout,
            self._connect_seconds,
            resend_lost=at_least_once and key is None,
        )
        station = self._here()
        outgoing = _Outgoing(
            route,
            body.encode_request(ctxt, message, call_monitor_timeout if wait_for_reply else None, self._limit_bytes),
            station.message_id(),
            mandatory=in_partition or (at_least_once and not target.fanout),
            expiration_seconds=timeout if wait_for_reply else None,
        )
        if wait_for_reply:
            return self._call(station, outgoing, effort, call_monitor_timeout)
        station.sender.cast(partial(outgoing.prepared, station), effort)
        return None

    def send_notification(
        self, target: Any, ctxt: Any, message: dict[str, Any], version: float, retry: int | None = None
    ) -> None:
        """Store a notification with the broker; its queue is made if no listener ever was there."""
        del version  # both versions of oslo.messaging's envelope carry the same; ours is described in `body`
        station = self._here()
        source = self._sources.notifications(self._exchange_of(target), target.topic, None)
        route = routes.notify_route(self._exchange_of(target), target.topic)
        encoded = body.encode_request(ctxt, message, None, self._limit_bytes)
        message_id = station.message_id()

        def make(link: Link, deadline: float) -> Publication:
            items = self._sources.to_declare(source)
            station.sending.prepare(source.queue, lambda left: link.declare(items, left), deadline)
            return Publication(route.exchange, route.routing_key, encoded, message_id=message_id, mandatory=True)

        effort = Effort(
            retry,
            None,
            self._connect_seconds,
            resend_lost=True,
            on_returned=lambda: station.sending.unprepare(source.queue),
        )
        station.sender.cast(make, effort)

    def listen(self, target: Any, batch_size: int, batch_timeout: float | None) -> RpcListener:
        """Declare an RPC server's queues; its listener consumes them once started."""
        del batch_size, batch_timeout  # RPC is dispatched one by one
        station = self._here()
        link = station.listening_link()
        exchange, topic = self._exchange_of(target), target.topic
        own = self._sources.fanout(exchange, topic, uuid.uuid4().hex)
        server = self._sources.server(exchange, topic, target.server)
        ordered = bool(self._options.partitions)
        sources = RpcSources(
            plain=[self._sources.topic(exchange, topic), *([] if ordered else [own, server])],
            keyed=[own, server] if ordered else [],
            partitions=[self._sources.partition(exchange, topic, each) for each in range(self._options.partitions)],
            own=own,
        )
        replying = routes.replies_exchange(routes.rpc_exchange(exchange).name)
        self._declare(link, [*sources.plain, *sources.keyed, *sources.partitions], [replying])
        reception = Reception(
            f"{target.server}:{uuid.uuid4().hex}",
            self._options.prefetch,
            self._options.ordered_prefetch,
            self._limit_bytes,
            self._options.user_in_context,
        )
        replies = ReplySender(link, replying.name, station.later(), self._options.reply_patience)
        return RpcListener(link, sources, reception, replies, station.later())

    def listen_for_notifications(
        self,
        targets_and_priorities: Iterable[tuple[Any, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> NotificationListener:
        """Declare a notification listener's queues, one per topic and priority, its pool's own if it is in one."""
        station = self._here()
        link = station.listening_link()
        sources: list[routes.Source] = []
        back: dict[str, routes.Route] = {}
        for target, priority in targets_and_priorities:
            exchange = self._exchange_of(target)
            source = self._sources.notifications(exchange, f"{target.topic}.{priority}", pool)
            sources.append(source)
            back[source.queue] = routes.requeue_route(exchange, source.queue)
        self._declare(link, sources, [])
        prefetch = max(self._options.prefetch, batch_size)
        reception = NotificationReception(back, prefetch, self._options.requeue_limit)
        return NotificationListener(link, reception, station.later(), batch_size, batch_timeout)

    def provide(self, target: Any) -> None:
        """Declare what the servers of a topic share, for servers that may not (option ``declare``)."""
        exchange, topic = self._exchange_of(target), target.topic
        partitions = [self._sources.partition(exchange, topic, each) for each in range(self._options.partitions)]
        link = self._here().listening_link()
        replying = routes.replies_exchange(routes.rpc_exchange(exchange).name)
        self._declare(link, [self._sources.topic(exchange, topic), *partitions], [replying])

    def cleanup(self) -> None:
        """Disconnect; calls that wait fail, servers should have been stopped before."""
        with self._making:
            station = self._station
        if station is not None and station.process == os.getpid():
            station.close()

    def _declare(self, link: Link, sources: Iterable[routes.Source], exchanges: Iterable[Exchange]) -> None:
        items: dict[object, Exchange | Queue | Binding] = {}
        for each in (*self._sources.exchanges_to_declare(*exchanges), *chain(*map(self._sources.to_declare, sources))):
            items[each if isinstance(each, Binding) else (type(each), each.name)] = each
        demanded(lambda: link.declare(list(items.values())))

    def _here(self) -> Station:
        """This process's station: a forked child must not touch its parent's connections."""
        station = self._station
        if station is not None and station.process == os.getpid():
            return station
        with self._making:
            if self._station is None or self._station.process != os.getpid():
                self._station = Station(self._address, self._options)
            return self._station

    def _exchange_of(self, target: Any) -> str:
        return target.exchange or self._default_exchange or _UNNAMED_EXCHANGE

    def _route(self, target: Any, key: str | None) -> routes.Route:
        exchange = self._exchange_of(target)
        if target.fanout:
            return routes.fanout_route(exchange, target.topic)
        if target.server:
            return routes.server_route(exchange, target.topic, target.server)
        if key is not None:
            partitions = self._options.partitions
            return routes.ordered_route(exchange, target.topic, partition_of(key, partitions), partitions)
        return routes.topic_route(exchange, target.topic)

    def _call(self, station: Station, outgoing: _Outgoing, effort: Effort, monitor: float | None) -> Any:
        waiter = station.waiters.open(effort.deadline, monitor)
        try:
            delivery = station.sender.call(
                partial(outgoing.prepared_call, station, waiter.correlation_id), waiter, effort
            )
        finally:
            station.waiters.close(waiter)
        return body.decode_reply(delivery.body, self._allowed_remote_exmods)


class _Outgoing(msgspec.Struct, frozen=True):
    """A request, ready but for what only a connected link can give it."""

    route: routes.Route
    encoded: bytes
    message_id: str
    mandatory: bool
    expiration_seconds: float | None

    def prepared(self, station: Station, link: Link, deadline: float) -> Publication:
        """To publish as a cast."""
        station.prepare_exchange(link, self.route.exchange, deadline)
        route = self.route
        return Publication(
            route.exchange, route.routing_key, self.encoded, message_id=self.message_id, mandatory=self.mandatory
        )

    def prepared_call(self, station: Station, correlation_id: str, link: Link, deadline: float) -> Publication:
        """To publish as a call; the broker drops it when nobody waits for it any more."""
        station.prepare_exchange(link, self.route.exchange, deadline)
        route = self.route
        return Publication(
            route.exchange,
            route.routing_key,
            self.encoded,
            message_id=self.message_id,
            correlation_id=correlation_id,
            reply_to=station.reply_queue(link, deadline, self.route.exchange),
            mandatory=self.mandatory,
            expiration_seconds=self.expiration_seconds,
        )


def _at_least_once(transport_options: Any) -> bool:
    """oslo.messaging's TransportOptions, or a mapping with the same entry."""
    if isinstance(transport_options, Mapping):
        return bool(transport_options.get("at_least_once", False))
    return bool(getattr(transport_options, "at_least_once", False))


def provide_topic(transport: Any, target: Any) -> None:
    """Declare the shared queues of a topic, for servers whose broker user may configure only its own queues.

    ``transport`` is an RPCTransport of this driver, ``target`` names topic and exchange.  Raises CannotListen.
    """
    transport._driver.provide(target)  # noqa: SLF001  # oslo.messaging gives no other way to its driver
