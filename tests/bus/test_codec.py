from __future__ import annotations

import datetime as dt
import enum
import uuid

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.bus import codec
from federation.bus.errors import BadMessage, BodyTooLarge, CannotEncode

INTEGERS = st.integers(min_value=-(2**4000), max_value=2**4000)
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


@given(VALUES)
def test_every_builtin_value_comes_back_as_it_was(value):
    assert codec.decode(codec.encode(value)) == value


@given(INTEGERS)
def test_integers_of_any_size_come_back(number):
    assert codec.decode(codec.encode({"n": [number]})) == {"n": [number]}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_value_or_a_bad_message(body):
    try:
        value = codec.decode(body)
    except BadMessage:
        return
    assert codec.decode(codec.encode(value)) == value or value != value  # noqa: PLR0124  # NaN


class Colour(enum.StrEnum):
    RED = "red"


class Spec(msgspec.Struct):
    name: str
    size: int = 3


def test_what_oslo_makes_primitive_and_our_structs_become_builtins():
    value = {
        "id": uuid.UUID(int=5),
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "colour": Colour.RED,
        "spec": Spec("a"),
        "pair": (1, 2),
        "set": {1},
    }
    assert codec.decode(codec.encode(value)) == {
        "id": "00000000-0000-0000-0000-000000000005",
        "when": "2026-01-02T03:04:05.000000",
        "colour": "red",
        "spec": {"name": "a", "size": 3},
        "pair": [1, 2],
        "set": [1],
    }


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"a": [{"b": {2: 3}}]}, r"body\.a\[0\]\.b has the key 2"),
        ({b"raw": 1}, "no string"),
        ({"o": object()}, "object"),
        ({"n": 1 << 9000}, "integer of 1126 bytes"),
        ({"s": "\ud800"}, "surrogates"),
    ],
)
def test_what_has_no_form_on_the_wire_is_refused_by_name(value, word):
    with pytest.raises(CannotEncode, match=word):
        codec.encode(value)


def test_nesting_without_end_is_refused_in_both_directions():
    value: list[object] = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(CannotEncode):
        codec.encode(value)
    with pytest.raises(BadMessage):
        codec.decode(b"\x91" * 5000 + b"\xc0")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "incomplete"),
        (b"\xc1", "not msgpack"),
        (msgpack.packb({1: 2}), "map key"),
        (msgpack.packb({b"k": 1}), "no string"),
        (b"\x01\x02", "extra data"),
        (b"\xa1\xff", "utf-8"),
        (msgpack.packb(msgpack.ExtType(9, b"x")), "extension type 9"),
        (msgpack.packb(msgpack.ExtType(codec.BIG_INTEGER, b"x" * 1025)), "1025 bytes"),
        (b"\xdf\xff\xff\xff\xff", "exceeds"),
    ],
)
def test_a_garbled_body_is_a_bad_message_that_says_why(body, word):
    with pytest.raises(BadMessage, match=word):
        codec.decode(body)


def test_a_body_above_the_limit_is_refused_with_both_numbers():
    with pytest.raises(BodyTooLarge, match="12 bytes is above the limit of 11") as refusal:
        codec.encode("a" * 11, limit_bytes=11)
    assert (refusal.value.size_bytes, refusal.value.limit_bytes) == (12, 11)
    with pytest.raises(BodyTooLarge):
        codec.decode(b"\xc0" * 12, limit_bytes=11)
