"""Errors of the transport, in the classes that oslo.messaging's callers catch.

A BusError that a send may outlive (no connection, overload, a broker's nack) is retried as the caller asked and ends as
oslo.messaging's MessageDeliveryFailure; one that it cannot (too large a body) is TransportError at once, which
oslo.messaging's client shows as ClientSendError.  A server that cannot listen gets CannotListen.
"""

from __future__ import annotations

import oslo_messaging
from oslo_messaging._drivers import base


class TransportError(base.TransportDriverError):  # type: ignore[misc]  # oslo.messaging has no types
    """The transport cannot do this, and trying again will not help; the text says what to change."""


class CannotListen(oslo_messaging.MessagingException):  # type: ignore[misc]  # reads as what it says
    """A server's queues cannot be had; the text says why.

    No TransportDriverError, on which oslo.messaging 18.3.1 stumbles (``RPCServer`` has no ``target`` to put into its
    ServerListenError).
    """


class NotSent(Exception):  # a fact that a retry acts on; it never leaves this package
    """This attempt certainly did not deliver the message; another attempt cannot duplicate it."""


class DeliveryTakenBackError(Exception):
    """The broker took the message back before it was dispatched; it will be delivered again, so it must not run now."""
