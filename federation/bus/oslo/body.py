"""The bodies of the transport: msgpack maps, described for other implementers in docs/reference/transport.md.

Request and notification: ``{"v": 1, "ctxt": {…}, "msg": {…}}``, and in a monitored call ``"monitor": seconds``.
Reply: ``{"v": 1, "result": …}`` or ``{"v": 1, "failure": "…"}``, the failure in oslo.messaging's own JSON.
A heartbeat of a monitored call is a reply with the header ``federation-heartbeat`` and an empty body.
"""

from __future__ import annotations

from typing import Any

import msgspec
import oslo_messaging
from oslo_messaging._drivers import common as oslo_common
from oslo_serialization import jsonutils

from federation.bus import codec
from federation.bus.errors import BadMessage, BusError, CannotEncode
from federation.bus.oslo.errors import TransportError

VERSION = 1
HEARTBEAT_HEADER = "federation-heartbeat"
ORDERING_KEY = "ordering_key"
"""The entry of the request context that names what must stay in order."""


class Request(msgspec.Struct, frozen=True):
    """What a request's body holds; ``monitor`` is how many seconds the caller waits for a sign of life, or None."""

    context: dict[str, Any]
    message: dict[str, Any]
    monitor: float | None


def ordering_key(context: Any) -> str | None:
    """The key under which a message is ordered, or None; numbers and UUIDs count by their text."""
    key = context.get(ORDERING_KEY) if isinstance(context, dict) else None
    return None if key is None else str(key)


def encode_request(context: Any, message: Any, monitor: float | None, limit_bytes: int) -> bytes:
    """A request or notification on its way out; raises TransportError for what has no form on the wire."""
    fields: dict[str, object] = {"v": VERSION, "ctxt": context, "msg": message}
    if monitor is not None:
        fields["monitor"] = monitor
    return _encode(fields, limit_bytes)


def decode_request(body: bytes) -> Request:
    """A request or notification that arrived; raises BadMessage for anything that :func:`encode_request` never made."""
    fields = _decode(body)
    context = fields.get("ctxt")
    message = fields.get("msg")
    monitor = fields.get("monitor")
    if context is None:
        context = {}
    if not isinstance(context, dict):
        raise BadMessage(f"'ctxt' is {type(context).__name__}, not a map")
    if not isinstance(message, dict):
        raise BadMessage(f"'msg' is {type(message).__name__}, not a map")
    if monitor is not None and not isinstance(monitor, int | float):
        raise BadMessage(f"'monitor' is {type(monitor).__name__}, not a number")
    return Request(context, message, monitor)


def encode_reply(result: object, limit_bytes: int) -> bytes:
    """The result of a call; raises TransportError for what has no form on the wire."""
    return _encode({"v": VERSION, "result": result}, limit_bytes)


def encode_failure(failure: Any, limit_bytes: int) -> bytes:
    """The exception of a call, from ``sys.exc_info()``; its traceback is left out when it does not fit."""
    text = oslo_common.serialize_remote_exception(failure)
    try:
        return _encode({"v": VERSION, "failure": text}, limit_bytes)
    except TransportError as error:
        return _encode({"v": VERSION, "failure": _serialize(error)}, limit_bytes)


def encode_refusal(error: Exception, limit_bytes: int) -> bytes:
    """An error of the transport itself, as the failure of a call."""
    return _encode({"v": VERSION, "failure": _serialize(error)}, limit_bytes)


def decode_reply(body: bytes, allowed_modules: list[str]) -> object:
    """The result of a call, or raises what the server raised, rebuilt if its module is allowed, else RemoteError.

    A reply that makes no sense raises MessagingException.
    """
    try:
        fields = _decode(body)
        failure = fields.get("failure")
        error = None if failure is None else oslo_common.deserialize_remote_exception(failure, allowed_modules)
    except (BadMessage, ValueError, TypeError, AttributeError) as unreadable:
        raise oslo_messaging.MessagingException(f"the reply cannot be read: {unreadable}") from unreadable
    if error is not None:
        raise error
    return fields.get("result")


def _serialize(error: Exception) -> str:
    return str(oslo_common.serialize_remote_exception((type(error), error, None)))


def _encode(fields: dict[str, object], limit_bytes: int) -> bytes:
    try:
        try:
            return codec.encode(fields, limit_bytes)
        except CannotEncode as error:
            return codec.encode(_as_json_would(fields, error), limit_bytes)
    except BusError as error:
        raise TransportError(str(error)) from error


def _as_json_would(fields: dict[str, object], reason: CannotEncode) -> object:
    """What oslo.messaging's other transports make of it: keys that are no strings become strings."""
    try:
        return jsonutils.loads(jsonutils.dumps(fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise reason from error


def _decode(body: bytes) -> dict[str, Any]:
    fields = codec.decode(body)
    if not isinstance(fields, dict):
        raise BadMessage(f"the body is {type(fields).__name__}, not a map")
    if fields.get("v") != VERSION:
        raise BadMessage(f"the body has version {fields.get('v')!r}; this release reads version {VERSION}")
    return fields
