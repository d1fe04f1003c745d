"""AMQP field tables (message headers), encoded and decoded without py-amqp's per-item overhead.

The types are RabbitMQ's (https://www.rabbitmq.com/docs/amqp-0-9-1-errata): ``S`` string, ``I`` and ``l`` signed
integers of 32 and 64 bits, ``t`` boolean, ``d`` double, ``V`` void, ``x`` bytes.  Everything rarer goes through
py-amqp's own serialisation, and a test holds both to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as struct_error
from typing import Any

from amqp.exceptions import FrameSyntaxError
from amqp.serialization import dumps, loads

from federation.bus.errors import CannotEncode

_LONG = Struct(">I")
_INT32 = Struct(">ci")
_INT64 = Struct(">cq")
_DOUBLE = Struct(">cd")
_STRING = Struct(">cI")
_INT32_AT = Struct(">i")
_INT64_AT = Struct(">q")
_DOUBLE_AT = Struct(">d")
_INT32_MAX = 2**31 - 1
_LONGEST_KEY = 255
_CACHED_NAMES = 1024

_encoded_names: dict[str, bytes] = {}
_decoded_names: dict[bytes, str] = {}


def _encode_name(name: str) -> bytes:
    raw = name.encode()
    if len(raw) > _LONGEST_KEY:
        msg = f"header name {name[:40]!r}… is longer than {_LONGEST_KEY} bytes"
        raise CannotEncode(msg)
    encoded = bytes((len(raw),)) + raw
    if len(_encoded_names) < _CACHED_NAMES:
        _encoded_names[name] = encoded
    return encoded


def _encode_rare(name: str, value: object) -> bytes:
    try:
        return bytes(dumps("F", [{"": value}])[5:])
    except (FrameSyntaxError, ValueError, struct_error) as error:
        msg = f"header {name!r} of type {type(value).__name__} has no form in AMQP"
        raise CannotEncode(msg) from error


def encode_table(table: Mapping[str, object]) -> bytes:  # noqa: C901  # one branch per type, flat because hot
    """The bytes of a field table, length first; raises CannotEncode naming the header that has no form."""
    if not table:
        return b"\0\0\0\0"
    parts = []
    for name, value in table.items():
        parts.append(_encoded_names.get(name) or _encode_name(name))
        kind = type(value)
        if kind is str:
            raw = value.encode()  # type: ignore[attr-defined]  # `kind is str` is beyond mypy's narrowing
            parts.append(_STRING.pack(b"S", len(raw)))
            parts.append(raw)
        elif kind is int:
            if -_INT32_MAX <= value <= _INT32_MAX:  # type: ignore[operator]
                parts.append(_INT32.pack(b"I", value))
            else:
                try:
                    parts.append(_INT64.pack(b"l", value))
                except struct_error as error:
                    msg = f"header {name!r} is an integer beyond 64 bits"
                    raise CannotEncode(msg) from error
        elif kind is float:
            parts.append(_DOUBLE.pack(b"d", value))
        elif kind is bool:
            parts.append(b"t\1" if value else b"t\0")
        elif value is None:
            parts.append(b"V")
        elif kind is bytes:
            parts.append(_STRING.pack(b"x", len(value)))  # type: ignore[arg-type]
            parts.append(value)  # type: ignore[arg-type]
        else:
            parts.append(_encode_rare(name, value))
    body = b"".join(parts)
    return _LONG.pack(len(body)) + body


def decode_table(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """The field table that begins at ``offset``, and where it ends.

    Raises FrameSyntaxError, IndexError or struct.error for bytes that are no table.
    """
    start = offset
    offset += 4
    end = offset + _LONG.unpack_from(buffer, start)[0]
    table: dict[str, Any] = {}
    while offset < end:
        size = buffer[offset]
        offset += 1
        raw_name = buffer[offset : offset + size]
        offset += size
        name = _decoded_names.get(raw_name)
        if name is None:
            name = raw_name.decode(errors="replace")
            if len(_decoded_names) < _CACHED_NAMES:
                _decoded_names[raw_name] = name
        kind = buffer[offset]
        offset += 1
        if kind == 83:  # noqa: PLR2004  # "S"; this chain is the hot path of every delivery
            (size,) = _LONG.unpack_from(buffer, offset)
            offset += 4
            table[name] = _text(buffer[offset : offset + size])
            offset += size
        elif kind == 73:  # noqa: PLR2004  # "I"
            (table[name],) = _INT32_AT.unpack_from(buffer, offset)
            offset += 4
        elif kind in (108, 76):  # "l", "L"
            (table[name],) = _INT64_AT.unpack_from(buffer, offset)
            offset += 8
        elif kind == 100:  # noqa: PLR2004  # "d"
            (table[name],) = _DOUBLE_AT.unpack_from(buffer, offset)
            offset += 8
        elif kind == 116:  # noqa: PLR2004  # "t"
            table[name] = buffer[offset] != 0
            offset += 1
        elif kind == 86:  # noqa: PLR2004  # "V"
            table[name] = None
        else:
            values, end = loads("F", buffer, start)
            return values[0], end
    return table, end


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
