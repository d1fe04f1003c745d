"""What can be set of the transport: by the URL's query, or in the group ``oslo_messaging_federation`` of oslo.config.

The URL wins over the configuration, which wins over the defaults here.  Durations are in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import oslo_messaging
from oslo_config import cfg

from federation.bus.address import Address, LinkOptions, parse_address
from federation.bus.errors import AddressError

GROUP = "oslo_messaging_federation"


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """Options of the transport itself; those of its connections are ``federation.bus.address.LinkOptions``."""

    partitions: int = 0
    prefetch: int = 100
    ordered_prefetch: int = 16
    queue_type: str = "quorum"
    queue_expiry: int = 0
    max_queue_length: int = 100_000
    delivery_limit: int = 50
    consumer_timeout: int = 4 * 3600
    private_queue_prefix: str = "federation.private"
    private_queue_expiry: int = 1800
    private_message_ttl: int = 600
    max_calls: int = 10_000
    connect_timeout_total: float = 60.0
    reply_patience: float = 60.0
    requeue_limit: int = 100
    declare: str = "all"
    user_in_context: str = ""


_DEFAULTS = DriverOptions()

_DRIVER_OPTIONS = [
    cfg.IntOpt(
        "partitions",
        default=_DEFAULTS.partitions,
        min=0,
        max=1024,
        help="Ordered partitions per topic. Above 0, messages whose context has an 'ordering_key' keep their order. "
        "Clients and servers of a topic must agree on it.",
    ),
    cfg.IntOpt(
        "prefetch",
        default=_DEFAULTS.prefetch,
        min=1,
        max=65535,
        help="Messages per queue that one listener holds before they are dispatched.",
    ),
    cfg.IntOpt(
        "ordered_prefetch",
        default=_DEFAULTS.ordered_prefetch,
        min=1,
        max=65535,
        help="Messages per partition that one listener holds until they are settled.",
    ),
    cfg.StrOpt(
        "queue_type",
        default=_DEFAULTS.queue_type,
        choices=["quorum", "classic"],
        help="Type of the durable queues of topics, servers and notifications. Partitions are always quorum queues.",
    ),
    cfg.IntOpt(
        "queue_expiry",
        default=_DEFAULTS.queue_expiry,
        min=0,
        help="Seconds without consumers after which the broker deletes a durable queue, with what is in it; 0: never.",
    ),
    cfg.IntOpt(
        "max_queue_length",
        default=_DEFAULTS.max_queue_length,
        min=1,
        help="Messages that a durable queue holds. A full RPC queue refuses; a full notification queue drops its oldest.",
    ),
    cfg.IntOpt(
        "delivery_limit",
        default=_DEFAULTS.delivery_limit,
        min=1,
        help="Deliveries of one message, each ended by the loss of its server, before it goes to the dead letters.",
    ),
    cfg.IntOpt(
        "consumer_timeout",
        default=_DEFAULTS.consumer_timeout,
        min=60,
        help="Longest time in seconds that an endpoint may take before the broker takes an ordered message back.",
    ),
    cfg.StrOpt(
        "private_queue_prefix",
        default=_DEFAULTS.private_queue_prefix,
        help="Beginning of the names of the reply and fanout queues, which belong to one process; a broker user that "
        "may configure only its own queues needs it.",
    ),
    cfg.IntOpt(
        "private_queue_expiry",
        default=_DEFAULTS.private_queue_expiry,
        min=1,
        help="Seconds without a consumer after which the broker deletes a reply or fanout queue.",
    ),
    cfg.IntOpt(
        "private_message_ttl",
        default=_DEFAULTS.private_message_ttl,
        min=1,
        help="Seconds that a reply or a fanout message waits for its receiver.",
    ),
    cfg.IntOpt("max_calls", default=_DEFAULTS.max_calls, min=1, help="Calls of one transport that wait for replies."),
    cfg.FloatOpt(
        "connect_timeout_total",
        default=_DEFAULTS.connect_timeout_total,
        min=0.1,
        help="Seconds that starting a server or the first call tries to reach any broker.",
    ),
    cfg.FloatOpt(
        "reply_patience",
        default=_DEFAULTS.reply_patience,
        min=0,
        help="Seconds that a server keeps trying to return a reply while the caller's reply queue is away.",
    ),
    cfg.IntOpt(
        "requeue_limit",
        default=_DEFAULTS.requeue_limit,
        min=1,
        help="How often one notification can be requeued before it goes to the dead letters.",
    ),
    cfg.StrOpt(
        "declare",
        default=_DEFAULTS.declare,
        choices=["all", "own"],
        help="What this process declares on the broker: all that it uses, or only the queues of its own (replies, fanout, "
        "its server's), for a broker user that may not configure more; the rest must be there.",
    ),
    cfg.StrOpt(
        "user_in_context",
        default=_DEFAULTS.user_in_context,
        help="Entry of a request's context where the server finds the broker user that sent it, as checked by the "
        "broker; empty: nowhere.",
    ),
]

_LINK_HELP: Mapping[str, str] = {
    "ssl": "Speak TLS to the broker.",
    "ssl_ca_file": "PEM file of the authorities to trust instead of the system's.",
    "ssl_cert_file": "PEM file of this client's certificate.",
    "ssl_key_file": "PEM file of this client's key.",
    "ssl_verify": "Check the broker's certificate and name.",
    "heartbeat": "Seconds between AMQP heartbeats; 0: none.",
    "connect_timeout": "Seconds for one attempt to connect to one host.",
    "write_timeout": "Seconds that the broker may leave our bytes unread.",
    "confirm_timeout": "Seconds that one publication may wait for the broker's confirm.",
    "reconnect_max": "Longest pause in seconds between two attempts to reconnect.",
    "max_unsettled": "Publications that may wait to be sent or confirmed.",
    "max_body_bytes": "Largest message body in bytes.",
}

_LINK_DEFAULTS = LinkOptions()


def _link_option(name: str) -> cfg.Opt:
    default = getattr(_LINK_DEFAULTS, name)
    text = _LINK_HELP.get(name, "See federation.bus.address.LinkOptions.")
    match default:
        case bool():
            return cfg.BoolOpt(name, default=default, help=text)
        case int():
            return cfg.IntOpt(name, default=default, min=1, help=text)
        case float():
            return cfg.FloatOpt(name, default=default, min=0, help=text)
        case _:
            return cfg.StrOpt(name, default=default, help=text)


_LINK_NAMES = tuple(option.name for option in fields(LinkOptions))
_DRIVER_NAMES = tuple(option.name for option in fields(DriverOptions))

OPTIONS = [*_DRIVER_OPTIONS, *(_link_option(name) for name in _LINK_NAMES)]
"""For ``oslo-config-generator`` and for registering on a ConfigOpts."""


_ON_THE_GLOBAL_CONF_ONLY = {
    "oslo_messaging_metrics": "oslo_messaging._metrics.client",
    "oslo_messaging_tracing": "oslo_messaging._tracing.client",
}
"""Groups that oslo.messaging (18.3.1) reads from a transport's conf at every call, but registers on ``cfg.CONF`` alone."""


def adopt_global_groups(conf: cfg.ConfigOpts) -> None:
    """Register on ``conf`` what oslo.messaging forgets, so that a program may have a ConfigOpts of its own."""
    for group, module in _ON_THE_GLOBAL_CONF_ONLY.items():
        options = getattr(sys.modules.get(module), group, None)
        if options is not None:
            conf.register_opts(options, group=group)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """What the entry point ``oslo.config.opts`` asks for."""
    return [(GROUP, OPTIONS)]


def read_options(conf: cfg.ConfigOpts, url: Any) -> tuple[Address, DriverOptions]:
    """The broker's address with the options of its links, and the transport's own options.

    ``url`` is an oslo.messaging TransportURL.  Raises oslo.messaging's InvalidTransportURL, whose text never shows the
    password, for an unknown option or a value out of range.
    """
    conf.register_opts(OPTIONS, group=GROUP)
    adopt_global_groups(conf)
    section = conf[GROUP]
    text = str(url)
    if section.ssl and "ssl" not in url.query:  # the parser needs it to know the default port
        text += f"{'&' if '?' in text else '?'}ssl=1"
    try:
        address = parse_address(text, extra=_DRIVER_NAMES)
    except AddressError as error:
        raise oslo_messaging.InvalidTransportURL("(not shown: it may hold a password)", str(error)) from error
    chosen = {name: getattr(address.options, name) for name in _LINK_NAMES if name in url.query}
    from_conf = {name: section[name] for name in _LINK_NAMES}
    address = replace(address, options=LinkOptions(**{**from_conf, **chosen}), extra={})
    return address, DriverOptions(**{name: _driver_value(name, section, url.query) for name in _DRIVER_NAMES})


def _driver_value(name: str, section: Any, query: Mapping[str, str]) -> Any:
    if name not in query:
        return section[name]
    option = next(option for option in _DRIVER_OPTIONS if option.name == name)
    try:
        return option.type(query[name])
    except ValueError as error:
        raise oslo_messaging.InvalidTransportURL(
            "(not shown: it may hold a password)", f"option {name!r}: {error}"
        ) from error
