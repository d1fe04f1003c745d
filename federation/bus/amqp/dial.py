"""Connecting to the hosts of an address."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable
from itertools import chain

from amqp.exceptions import AMQPError

from federation.bus.address import Address, Endpoint
from federation.bus.amqp.wire import Wire
from federation.bus.broker_versions import read_announcement
from federation.bus.errors import BusUnavailable, UnsupportedBroker

_PERMANENT_CODES = frozenset({403, 402, 530})
"""Access refused, invalid path and not allowed (no such vhost): trying again changes nothing."""


class RefusedForGood(BusUnavailable):
    """Every host said something that another attempt cannot change."""


def tls_context(address: Address) -> ssl.SSLContext | None:
    """The TLS settings of an address, or None without TLS; raises BusUnavailable for unreadable files."""
    options = address.options
    if not options.ssl:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=options.ssl_ca_file)
        if options.ssl_cert_file:
            context.load_cert_chain(options.ssl_cert_file, options.ssl_key_file)
    except OSError as error:
        files = options.ssl_ca_file, options.ssl_cert_file, options.ssl_key_file
        msg = f"cannot use the TLS files {', '.join(filter(None, files))}: {error}"
        raise RefusedForGood(msg) from error
    if not options.ssl_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _TlsWire(Wire):
    """A Wire whose TLS context is made once per link instead of once per py-amqp transport."""

    def __init__(self, pump: Callable[[], None], context: ssl.SSLContext, server_name: str, **options: object) -> None:
        super().__init__(pump, ssl=True, **options)
        self._context = context
        self._server_name = server_name

    def Transport(self, *arguments: object, **options: object) -> object:  # noqa: N802  # py-amqp's name
        transport = super().Transport(*arguments, **options)
        context, server_name = self._context, self._server_name
        transport._wrap_socket = lambda sock: context.wrap_socket(  # noqa: SLF001  # py-amqp has no other door
            sock, server_hostname=server_name, do_handshake_on_connect=False
        )
        return transport


def dial(
    address: Address, endpoint: Endpoint, name: str, pump: Callable[[], None], context: ssl.SSLContext | None
) -> Wire:
    """Connect to one host; raises BusUnavailable saying what it answered."""
    options = address.options
    keywords: dict[str, object] = {
        "host": str(endpoint),
        "userid": address.user,
        "password": address.password,
        "login_method": "PLAIN",
        "virtual_host": address.virtual_host,
        "heartbeat": math.ceil(options.heartbeat),  # AMQP counts whole seconds
        "connect_timeout": options.connect_timeout,
        "client_properties": {"connection_name": name, "product": "driver-federation"},
        # py-amqp's default TCP_USER_TIMEOUT of one second kills a connection over a hiccup of the network;
        # the second line behind our own write timeout.
        "socket_settings": {socket.TCP_USER_TIMEOUT: int(options.write_timeout * 2000)},
    }
    wire = _TlsWire(pump, context, endpoint.host, **keywords) if context else Wire(pump, **keywords)
    try:
        wire.open()
        wire.announced = read_announcement(wire.server_properties)
    except AMQPError as error:
        wire.drop()
        kind = RefusedForGood if error.reply_code in _PERMANENT_CODES else BusUnavailable
        raise kind(str(error.reply_text or error)) from error
    except UnsupportedBroker:
        wire.drop()
        raise
    except (OSError, ValueError) as error:
        wire.drop()
        raise BusUnavailable(str(error) or type(error).__name__) from error
    return wire


def dial_any(
    address: Address, name: str, pump: Callable[[], None], context: ssl.SSLContext | None, first: int
) -> tuple[Wire, int]:
    """Connect to the first host that answers, beginning with number ``first``.

    Returns the connection and the host's number.  Raises RefusedForGood when every host refused for good, otherwise
    BusUnavailable; both with what each host said.
    """
    reasons: dict[str, str] = {}
    errors: list[BusUnavailable] = []
    count = len(address.endpoints)
    for number in chain(range(first, count), range(first)):
        endpoint = address.endpoints[number]
        try:
            return dial(address, endpoint, name, pump, context), number
        except BusUnavailable as error:
            reasons[str(endpoint)] = str(error)
            errors.append(error)
    if all(isinstance(error, UnsupportedBroker) for error in errors):
        msg = "no host of the bus can carry the federation"
        raise UnsupportedBroker(msg, reasons)
    if all(isinstance(error, RefusedForGood | UnsupportedBroker) for error in errors):
        msg = "every host of the bus refused the connection"
        raise RefusedForGood(msg, reasons)
    msg = "no host of the bus could be reached"
    raise BusUnavailable(msg, reasons)
