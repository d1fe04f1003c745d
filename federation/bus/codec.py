"""The one codec of all bodies on the bus: msgpack with string keys.

Whatever is no builtin type becomes one by oslo.serialization's ``jsonutils.to_primitive``, as in every OpenStack
service; an integer beyond 64 bits travels as extension type 1 (two's complement, big-endian).
"""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
from oslo_serialization import jsonutils

from federation.bus.errors import BadMessage, BodyTooLarge, CannotEncode

BIG_INTEGER = 1
"""msgpack extension type of integers beyond 64 bits."""
LONGEST_INTEGER_BYTES = 1024
DEFAULT_LIMIT_BYTES = 1024 * 1024
"""Limit of a body unless the caller says otherwise; far below RabbitMQ 4's 16 MiB."""
_BYTES_MARKERS = (b"\xc4", b"\xc5", b"\xc6")
"""One of these begins every byte string (msgpack's bin 8, 16 and 32)."""
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


def encode(value: object, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> bytes:
    """The bytes of a value.

    Raises CannotEncode naming the place of a key that is no string or of a value without a form on the wire, and
    BodyTooLarge above ``limit_bytes``.
    """
    try:
        _check_keys(value)
        body: bytes = msgpack.packb(value, default=_to_builtin)
    except BadMessage as error:
        raise CannotEncode(str(error)) from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CannotEncode(f"the value has no form on the wire: {error}") from error
    if len(body) > limit_bytes:
        raise BodyTooLarge(len(body), limit_bytes)
    return body


def decode(body: bytes, limit_bytes: int | None = None) -> Any:
    """The value of a body, in builtin types; raises BadMessage saying what is wrong, BodyTooLarge above the limit."""
    if limit_bytes is not None and len(body) > limit_bytes:
        raise BodyTooLarge(len(body), limit_bytes)
    try:
        value = msgpack.unpackb(body, ext_hook=_from_extension, timestamp=1)
    except BadMessage:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise BadMessage(f"the body is not msgpack: {str(error) or type(error).__name__}") from error
    # msgpack lets only text and bytes be keys (strict_map_key); without a bytes marker there are no bytes.
    if any(marker in body for marker in _BYTES_MARKERS):
        _check_keys(value)
    return value


def _check_keys(value: object) -> None:
    """Raise BadMessage naming the first map key that is no string."""
    if type(value) not in _SCALARS and not _all_keys_are_strings(value):
        raise BadMessage(_first_odd_key(value, "the body"))


def _all_keys_are_strings(value: object) -> bool:
    # Most bodies go through here: exact types first, the rest by isinstance.
    if isinstance(value, dict):
        for key, child in value.items():
            if type(key) is not str and not isinstance(key, str):
                return False
            if type(child) not in _SCALARS and not _all_keys_are_strings(child):
                return False
    elif isinstance(value, list | tuple):
        for child in value:
            if type(child) not in _SCALARS and not _all_keys_are_strings(child):
                return False
    return True


def _first_odd_key(value: object, path: str) -> str:
    if isinstance(value, dict):
        for key, child in value.items():
            if not isinstance(key, str):
                return f"{path} has the key {key!r}, which is no string"
            if found := _first_odd_key(child, f"{path}.{key}"):
                return found
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            if found := _first_odd_key(child, f"{path}[{index}]"):
                return found
    return ""


def _to_builtin(value: object) -> object:
    """What msgpack does not know: big integers, structs, and all that oslo knows to make primitive."""
    if isinstance(value, int):
        size = (value.bit_length() + 8) // 8
        if size > LONGEST_INTEGER_BYTES:
            raise CannotEncode(f"an integer of {size} bytes is above the limit of {LONGEST_INTEGER_BYTES} bytes")
        return msgpack.ExtType(BIG_INTEGER, value.to_bytes(size, "big", signed=True))
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    primitive = jsonutils.to_primitive(value)
    _check_keys(primitive)
    return primitive


def _from_extension(code: int, data: bytes) -> int:
    if code != BIG_INTEGER:
        raise BadMessage(f"the body uses the unknown msgpack extension type {code}")
    if len(data) > LONGEST_INTEGER_BYTES:
        raise BadMessage(f"the body has an integer of {len(data)} bytes, above the limit of {LONGEST_INTEGER_BYTES}")
    return int.from_bytes(data, "big", signed=True)
