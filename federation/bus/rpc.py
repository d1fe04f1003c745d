"""Remote calls for the rest of the product, through oslo.messaging's public classes over our own transport.

Queries, admission and the manager's interface for the command line travel this way.  A door is one function
``(method, arguments) -> reply`` behind one topic; what it may raise is its own business, here a failure to get an
answer becomes ``unavailable``.

Every topic has an exchange of its own: RabbitMQ's permissions are by exchange, so that who may call one door can be kept
from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from oslo_config import cfg

from federation.bus.address import AMQP_SCHEME, AMQP_SYNONYM
from federation.bus.errors import BusUnavailable
from federation.bus.oslo.driver import provide_topic
from federation.bus.threads_only import oslo_messaging
from federation.contract.errors import Unavailable

VERSION = "1.0"
CALLS = "calls"
"""The one topic within a door's exchange."""
Door = Callable[[str, dict[str, Any]], dict[str, Any]]
CheckedDoor = Callable[[str, dict[str, Any], str | None], dict[str, Any]]
"""A door that is also told the broker user of the caller, as the broker checked it."""
_USER = "federation_broker_user"


class _Endpoint:
    """The one RPC endpoint of a door."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, door: CheckedDoor) -> None:
        self._door = door

    def invoke(self, context: Mapping[str, Any], use_case: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Called by oslo.messaging in a thread of its executor."""
        return self._door(use_case, arguments, context.get(_USER))


class Rpc:
    """One transport to one broker; make servers and call doors with it.  Thread-safe."""

    def __init__(self, url: str, own_prefix: str = "", *, confined: bool = False) -> None:
        """``url`` is ``federation://…`` (``amqp://…`` is read as that) or ``federation+memory://…``.

        ``own_prefix`` begins the names of the queues that belong to this process alone; ``confined`` declares nothing
        else, for a broker user that may not: a manager has provided the rest (``provide``).
        """
        scheme, separator, rest = url.partition("://")
        if scheme == AMQP_SYNONYM:
            url = f"{AMQP_SCHEME}{separator}{rest}"
        options = {
            "user_in_context": _USER,
            **({"private_queue_prefix": own_prefix} if own_prefix else {}),
            **({"declare": "own"} if confined else {}),
        }
        url += ("&" if "?" in url else "?") + urlencode(options)
        # oslo.messaging reads its tracing options from the global object only (DESIGN 6.5.10).
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url)
        self._servers: list[Any] = []
        self._clients: dict[str, Any] = {}

    def serve(self, topic: str, server: str, door: Door, threads: int = 16) -> None:
        """Answer calls on a topic until ``close``; at most ``threads`` at a time.  Raises BusUnavailable."""
        self.serve_checked(topic, server, lambda method, arguments, _user: door(method, arguments), threads)

    def serve_checked(self, topic: str, server: str, door: CheckedDoor, threads: int = 16) -> None:
        """The same for a door that asks which broker user calls."""
        rpc_server = oslo_messaging.get_rpc_server(
            self._transport,
            oslo_messaging.Target(exchange=topic, topic=CALLS, server=server),
            [_Endpoint(door)],
            executor="threading",
        )
        try:
            rpc_server.start(override_pool_size=threads)
        except oslo_messaging.MessagingException as error:
            message = f"{topic} cannot be served: {error}"
            raise BusUnavailable(message) from error
        self._servers.append(rpc_server)

    def provide(self, topic: str) -> None:
        """Declare what the servers of a topic share, for confined ones; raises BusUnavailable."""
        try:
            provide_topic(self._transport, oslo_messaging.Target(exchange=topic, topic=CALLS))
        except oslo_messaging.MessagingException as error:
            message = f"the queue of {topic} could not be declared: {error}"
            raise BusUnavailable(message) from error

    def call(self, topic: str, method: str, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Call a door; raises Unavailable when nobody answers within ``timeout`` seconds."""
        client = self._clients.get(topic)
        if client is None:
            target = oslo_messaging.Target(exchange=topic, topic=CALLS, version=VERSION)
            client = oslo_messaging.get_rpc_client(self._transport, target)
            self._clients[topic] = client
        try:
            reply = client.prepare(timeout=timeout).call({}, "invoke", use_case=method, arguments=dict(arguments))
        except oslo_messaging.MessagingTimeout as error:
            message = f"nobody answered {method} on {topic} within {timeout:g} s"
            raise Unavailable(message, topic=topic, method=method) from error
        except (oslo_messaging.MessageDeliveryFailure, oslo_messaging.MessageUndeliverable) as error:
            message = f"{method} could not be delivered to {topic}: nobody serves it, or the broker does not take it"
            raise Unavailable(message, topic=topic, method=method) from error
        except oslo_messaging.ClientSendError as error:
            message = f"{method} could not be sent to {topic}: {error.ex}"
            raise Unavailable(message, topic=topic, method=method) from error
        except oslo_messaging.RemoteError as error:
            message = f"{method} on {topic} failed there: {error.exc_type}"
            raise Unavailable(message, topic=topic, method=method) from error
        if not isinstance(reply, dict):
            message = f"{method} on {topic} was answered with {type(reply).__name__}, expected a table"
            raise Unavailable(message, topic=topic, method=method)
        return reply

    def stop_serving(self) -> None:
        """Stop all servers; calls under way are answered."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop()
            server.wait()

    def close(self) -> None:
        """Stop serving and disconnect."""
        self.stop_serving()
        self._transport.cleanup()
