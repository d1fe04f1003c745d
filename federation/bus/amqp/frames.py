"""The frames of the hot path, packed and read by hand.

``basic.publish`` with its content, ``basic.ack`` and ``basic.reject`` go out from here; ``basic.deliver``,
``basic.return`` and the broker's confirms are read here.  All other methods go through py-amqp.  Layout: AMQP 0-9-1
specification, 2.3.5 (frames), 4.2.6 (content header) and class 60 (basic).
"""

from __future__ import annotations

import logging
from struct import Struct
from struct import error as struct_error
from typing import Any

import msgspec
from amqp.exceptions import AMQPError, UnexpectedFrame

from federation.bus.errors import CannotEncode
from federation.bus.field_table import decode_table, encode_table
from federation.bus.link import Publication

LOG = logging.getLogger(__name__)
METHOD, HEADER, BODY = 1, 2, 3
FRAME_END = 0xCE
FRAME_OVERHEAD = 8
DELIVER = b"\x00\x3c\x00\x3c"
RETURN = b"\x00\x3c\x00\x32"
ACK = b"\x00\x3c\x00\x50"
NACK = b"\x00\x3c\x00\x78"

_FRAME = Struct(">BHI")
_CONTENT = Struct(">BHIHHQH")
_TAGGED = Struct(">BHIHHQBB")
_TAG_AND_BIT = Struct(">QB")
_BODY_SIZE = Struct(">Q")
_FLAGS = Struct(">H")
_SHORT_LIMIT = 255
_CACHED_METHODS = 4096

_publish_methods: dict[tuple[int, str, str, bool], bytes] = {}
_short_strings: dict[str, bytes] = {}


def _short(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > _SHORT_LIMIT:
        msg = f"{text[:40]!r}… is longer than AMQP's {_SHORT_LIMIT} bytes for names and ids"
        raise CannotEncode(msg)
    return bytes((len(raw),)) + raw


def _cached_short(text: str) -> bytes:
    encoded = _short_strings.get(text)
    if encoded is None:
        encoded = _short(text)
        if len(_short_strings) < _CACHED_METHODS:
            _short_strings[text] = encoded
    return encoded


def _publish_method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001  # AMQP's bit
    key = (channel, exchange, routing_key, mandatory)
    frame = _publish_methods.get(key)
    if frame is None:
        arguments = b"\x00\x3c\x00\x28\0\0" + _short(exchange) + _short(routing_key) + bytes((int(mandatory),))
        frame = _FRAME.pack(METHOD, channel, len(arguments)) + arguments + b"\xce"
        if len(_publish_methods) >= _CACHED_METHODS:
            _publish_methods.clear()
        _publish_methods[key] = frame
    return frame


def encode_publication(  # noqa: C901  # one branch per optional property, in AMQP's order
    channel: int, publication: Publication, *, user_id: str, app_id: str | None, frame_max: int
) -> bytes:
    """All frames of one ``basic.publish``.

    ``app_id`` comes back in a ``basic.return`` and says which publication it was.  Raises CannotEncode.
    """
    flags = 0x8000 | 0x1000 | 0x0010
    parts = [_cached_short(publication.content_type)]
    if publication.headers:
        flags |= 0x2000
        parts.append(encode_table(publication.headers))
    parts.append(b"\2" if publication.persistent else b"\1")
    if publication.correlation_id is not None:
        flags |= 0x0400
        parts.append(_short(publication.correlation_id))
    if publication.reply_to is not None:
        flags |= 0x0200
        parts.append(_cached_short(publication.reply_to))
    if publication.expiration_seconds is not None:
        flags |= 0x0100
        parts.append(_short(str(max(0, round(publication.expiration_seconds * 1000)))))
    if publication.message_id is not None:
        flags |= 0x0080
        parts.append(_short(publication.message_id))
    parts.append(_cached_short(user_id))
    if app_id is not None:
        flags |= 0x0008
        parts.append(_short(app_id))
    properties = b"".join(parts)
    body = publication.body
    size = len(body)
    header = _CONTENT.pack(HEADER, channel, len(properties) + 14, 60, 0, size, flags)
    method = _publish_method(channel, publication.exchange, publication.routing_key, publication.mandatory)
    chunk = frame_max - FRAME_OVERHEAD
    if len(properties) + 14 > chunk:
        msg = f"the headers take {len(properties)} bytes, above the broker's frame limit of {frame_max} bytes"
        raise CannotEncode(msg)
    if size <= chunk:
        if not size:
            return b"".join((method, header, properties, b"\xce"))
        return b"".join((method, header, properties, b"\xce", _FRAME.pack(BODY, channel, size), body, b"\xce"))
    frames = [method, header, properties, b"\xce"]
    for start in range(0, size, chunk):
        piece = body[start : start + chunk]
        frames += (_FRAME.pack(BODY, channel, len(piece)), piece, b"\xce")
    return b"".join(frames)


def encode_ack(channel: int, tag: int) -> bytes:
    """``basic.ack`` of one delivery."""
    return _TAGGED.pack(METHOD, channel, 13, 60, 80, tag, 0, FRAME_END)


def encode_reject(channel: int, tag: int) -> bytes:
    """``basic.reject`` of one delivery, without requeue."""
    return _TAGGED.pack(METHOD, channel, 13, 60, 90, tag, 0, FRAME_END)


def decode_confirm(payload: bytes) -> tuple[int, bool]:
    """(delivery tag, multiple) of a ``basic.ack`` or ``basic.nack``."""
    tag, bits = _TAG_AND_BIT.unpack_from(payload, 4)
    return tag, bool(bits & 1)


class Content(msgspec.Struct):
    """A delivery or return while its frames come in."""

    method: bytes
    arguments: bytes
    size: int = -1
    properties: dict[str, Any] = {}
    chunks: list[bytes] = []
    received: int = 0

    def add_header(self, payload: bytes) -> bool:
        """Take the content header; True when no body follows."""
        (self.size,) = _BODY_SIZE.unpack_from(payload, 4)
        try:
            self.properties = decode_properties(payload, 12)
        except (ValueError, OverflowError, IndexError, struct_error, AMQPError) as error:
            # A forged header (a date beyond the calendar, say) must not take the connection down on every delivery.
            LOG.warning("properties of a message cannot be read and count as absent: %s", error)
        return self.size == 0

    def add_body(self, payload: bytes) -> bool:
        """Take a body frame; True when it was the last."""
        self.received += len(payload)
        self.chunks.append(payload)
        if self.received > self.size:
            msg = f"the broker sent {self.received} bytes of a body announced with {self.size}"
            raise UnexpectedFrame(msg)
        return self.received == self.size

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


def decode_deliver(payload: bytes) -> tuple[str, int, bool, str, str]:
    """(consumer tag, delivery tag, redelivered, exchange, routing key) of a ``basic.deliver``."""
    end = 5 + payload[4]
    consumer_tag = payload[5:end].decode()
    tag, bits = _TAG_AND_BIT.unpack_from(payload, end)
    start = end + 10
    end = start + payload[end + 9]
    exchange = payload[start:end].decode()
    routing_key = payload[end + 1 : end + 1 + payload[end]].decode(errors="replace")
    return consumer_tag, tag, bool(bits & 1), exchange, routing_key


_SHORT_PROPERTIES = (
    (0x0400, "correlation_id"),
    (0x0200, "reply_to"),
    (0x0100, "expiration"),
    (0x0080, "message_id"),
)
_LATE_PROPERTIES = (
    (0x0020, "type"),
    (0x0010, "user_id"),
    (0x0008, "app_id"),
    (0x0004, "cluster_id"),
)


def decode_properties(  # noqa: C901  # one branch per optional property, in AMQP's order
    payload: bytes, offset: int
) -> dict[str, Any]:
    """The basic properties that begin (flags first) at ``offset``; the headers under ``headers``."""
    (flags,) = _FLAGS.unpack_from(payload, offset)
    offset += 2
    properties: dict[str, Any] = {}
    for bit, name in ((0x8000, "content_type"), (0x4000, "content_encoding")):
        if flags & bit:
            start = offset + 1
            offset = start + payload[offset]
            properties[name] = payload[start:offset].decode(errors="replace")
    if flags & 0x2000:
        properties["headers"], offset = decode_table(payload, offset)
    if flags & 0x1000:
        properties["delivery_mode"] = payload[offset]
        offset += 1
    if flags & 0x0800:
        properties["priority"] = payload[offset]
        offset += 1
    for bit, name in _SHORT_PROPERTIES:
        if flags & bit:
            start = offset + 1
            offset = start + payload[offset]
            properties[name] = payload[start:offset].decode(errors="replace")
    if flags & 0x0040:
        (properties["timestamp"],) = _BODY_SIZE.unpack_from(payload, offset)
        offset += 8
    for bit, name in _LATE_PROPERTIES:
        if flags & bit:
            start = offset + 1
            offset = start + payload[offset]
            properties[name] = payload[start:offset].decode(errors="replace")
    return properties


def split_frames(data: bytes) -> tuple[list[tuple[int, int, bytes]], bytes]:
    """Cut ``data`` into whole frames (type, channel, payload) and what is left of the last, unfinished one."""
    frames = []
    offset = 0
    end = len(data)
    unpack = _FRAME.unpack_from
    while end - offset >= FRAME_OVERHEAD:
        kind, channel, size = unpack(data, offset)
        stop = offset + 7 + size
        if stop >= end:
            break
        if data[stop] != FRAME_END:
            msg = f"a frame ends with {data[stop]:#04x} instead of 0xce"
            raise UnexpectedFrame(msg)
        frames.append((kind, channel, data[offset + 7 : stop]))
        offset = stop + 1
    return frames, data[offset:] if offset else data
