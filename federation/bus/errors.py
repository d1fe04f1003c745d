"""What can go wrong on the bus, each with the caller's next move.

Errors of py-amqp, sockets and msgpack are translated into these where they enter.
"""

# the names say what happened, as the port's docstrings use them
from __future__ import annotations


class BusError(Exception):
    """Root of everything the bus raises."""


class AddressError(BusError, ValueError):
    """The URL of the bus says something that cannot be meant; correct it (the message never shows a password)."""


class BusUnavailable(BusError):
    """No host of the URL could be used; ``reasons`` says what each said.  Try later, or correct the URL."""

    def __init__(self, message: str, reasons: dict[str, str] | None = None) -> None:
        self.reasons = dict(reasons or {})
        if self.reasons:
            message += ": " + "; ".join(f"{host}: {reason}" for host, reason in self.reasons.items())
        super().__init__(message)


class UnsupportedBroker(BusUnavailable):
    """What answers is not RabbitMQ 4.0 or newer; upgrade the broker."""


class LinkClosed(BusError):
    """The link was closed by this process; open a new one."""


class BusTimeout(BusError):
    """The broker did not answer in time; the request may or may not have taken effect."""


class BusOverloaded(BusError):
    """More publications wait than the link's limit; publish again when some have settled."""


class BrokerRefused(BusError):
    """The broker refused one request for good (no permission, no such queue); correct the request or the permissions."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the broker refused: {reason} ({code})")


class TopologyMismatch(BrokerRefused):
    """An exchange or queue exists with other properties; delete it, or use its properties. Retrying cannot help."""


class BodyTooLarge(BusError, ValueError):
    """A message body is above the limit; send less, or raise the limit on both sides."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"a body of {size_bytes} bytes is above the limit of {limit_bytes} bytes")


class BadMessage(BusError, ValueError):
    """A message is not what the protocol says; the text names the field.  Reject it: it will never become good."""


class CannotEncode(BusError, TypeError):
    """A value has no form on the wire; the text names where it stands and its type."""
