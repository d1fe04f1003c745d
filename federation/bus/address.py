"""The URL of the bus, read once and carried as data.

``federation://user:password@host:5672,host2:5673/vhost?option=value&…`` leads to RabbitMQ,
``federation+memory://user@name`` to the broker inside this process (``amqp://`` is read as ``federation://``).  The password is percent-decoded, kept out of every
``repr``, and never part of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from urllib.parse import parse_qsl, unquote

from federation.bus.errors import AddressError

AMQP_SCHEME = "federation"
AMQP_SYNONYM = "amqp"
MEMORY_SCHEME = "federation+memory"
DEFAULT_PORT = 5672
DEFAULT_TLS_PORT = 5671
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host and port of the URL."""

    host: str
    port: int

    def __str__(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Options of one link, each settable in the URL's query under its own name; durations in seconds."""

    ssl: bool = False
    """Speak TLS."""
    ssl_ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    ssl_cert_file: str | None = None
    """PEM file of this client's certificate."""
    ssl_key_file: str | None = None
    """PEM file of this client's key, when it is not in ``ssl_cert_file``."""
    ssl_verify: bool = True
    """Check the broker's certificate and name; 0 is for tests only."""
    heartbeat: float = 10.0
    """Heartbeat interval offered to the broker; 0 turns heartbeats off."""
    connect_timeout: float = 5.0
    """Limit of one attempt to connect to one host, handshakes included."""
    write_timeout: float = 15.0
    """How long the broker may leave our bytes unread before the connection counts as dead."""
    confirm_timeout: float = 30.0
    """How long one publication may wait for the broker's answer before it is settled as lost."""
    reconnect_max: float = 10.0
    """Longest pause between two attempts to reconnect."""
    max_unsettled: int = 10_000
    """Limit of publications that wait to be sent or answered."""
    max_body_bytes: int = 16 * 1024 * 1024
    """Limit of one body; RabbitMQ 4's own default is 16 MiB."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a link leads and how it behaves.

    ``extra`` holds the query options that the caller of :func:`parse_address` asked to keep for itself.
    """

    scheme: str
    endpoints: tuple[Endpoint, ...] = ()
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    name: str = ""
    options: LinkOptions = field(default_factory=LinkOptions)
    extra: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The URL without password and options, fit for logs."""
        if self.scheme == MEMORY_SCHEME:
            return f"{self.scheme}://{self.name}"
        hosts = ",".join(map(str, self.endpoints))
        return f"{self.scheme}://{self.user}@{hosts}/{'' if self.virtual_host == '/' else self.virtual_host}"


def parse_address(url: str | Address, extra: Collection[str] = ()) -> Address:
    """Read a URL of the bus.

    ``extra`` names query options beyond those of :class:`LinkOptions` that the caller reads itself; any other unknown
    option raises AddressError, as do a bad port, number or boolean.
    """
    if isinstance(url, Address):
        return url
    scheme, separator, rest = url.partition("://")
    if scheme == AMQP_SYNONYM:
        scheme = AMQP_SCHEME
    if not separator or scheme not in {AMQP_SCHEME, MEMORY_SCHEME}:
        msg = f"a bus URL begins with {AMQP_SCHEME}:// or {MEMORY_SCHEME}://"
        raise AddressError(msg)
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    options, kept = _read_query(query, extra)
    if scheme == MEMORY_SCHEME:
        login, _, name = authority.rpartition("@")
        user = unquote(login) or "local"
        return Address(scheme, user=user, password="", name=unquote(name) or "default", options=options, extra=kept)
    user, password, endpoints = _read_authority(authority, options)
    return Address(
        scheme,
        endpoints=endpoints,
        user=user,
        password=password,
        virtual_host=unquote(path) or "/",
        options=options,
        extra=kept,
    )


def _read_authority(authority: str, options: LinkOptions) -> tuple[str, str, tuple[Endpoint, ...]]:
    credentials: set[tuple[str, str]] = set()
    endpoints = []
    default_port = DEFAULT_TLS_PORT if options.ssl else DEFAULT_PORT
    for part in authority.split(","):
        login, at, location = part.rpartition("@")
        if at:
            user, _, password = login.partition(":")
            credentials.add((unquote(user), unquote(password)))
        endpoints.append(_read_endpoint(location, default_port))
    if len(credentials) > 1:
        msg = "all hosts of a bus URL share one user and password; the URL gives different ones"
        raise AddressError(msg)
    user, password = credentials.pop() if credentials else ("guest", "guest")
    return user, password, tuple(endpoints)


def _read_endpoint(location: str, default_port: int) -> Endpoint:
    if location.startswith("["):
        host, bracket, tail = location[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            msg = f"{location!r} is not a host: an IPv6 address stands in brackets"
            raise AddressError(msg)
        port_text = tail[1:]
    else:
        host, _, port_text = location.partition(":")
    if not host:
        host = "localhost"
    if not port_text:
        return Endpoint(host, default_port)
    if not port_text.isdecimal() or not 0 < int(port_text) <= _HIGHEST_PORT:
        msg = f"{port_text!r} is not a port number"
        raise AddressError(msg)
    return Endpoint(host, int(port_text))


def _boolean(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[text.lower()]


def _positive(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError(text)
    return value


_READERS: Mapping[type, Callable[[str], object]] = {bool: _boolean, float: _positive, int: _count}


def _read_query(query: str, extra: Collection[str]) -> tuple[LinkOptions, dict[str, str]]:
    defaults = LinkOptions()
    known = {option.name: type(getattr(defaults, option.name)) for option in fields(LinkOptions)}
    chosen: dict[str, object] = {}
    kept: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in extra:
            kept[name] = text
        elif name not in known:
            msg = f"unknown option {name!r} in the bus URL; known are {', '.join(sorted({*known, *extra}))}"
            raise AddressError(msg)
        else:
            try:
                chosen[name] = _READERS.get(known[name], str)(text)
            except (KeyError, ValueError) as error:
                msg = f"option {name!r} of the bus URL cannot be {text!r}"
                raise AddressError(msg) from error
    return LinkOptions(**chosen), kept  # type: ignore[arg-type]  # each value was read by its field's own type
