from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from federation.bus.errors import CannotEncode
from federation.bus.field_table import decode_table, encode_table

NAMES = st.text(min_size=1, max_size=60)
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
COMMON = st.text() | INT64 | st.booleans() | st.none() | st.floats(allow_nan=False)
RARE = st.lists(COMMON, max_size=3) | st.dictionaries(NAMES, COMMON, max_size=3)


@given(st.dictionaries(NAMES, COMMON | RARE))
def test_a_table_comes_back_through_our_own_code_and_through_py_amqps(table):
    encoded = encode_table(table)
    assert decode_table(encoded, 0) == (table, len(encoded))
    assert loads("F", encoded, 0) == ([table], len(encoded))


@given(st.dictionaries(NAMES, st.text() | st.integers(-(2**31) + 1, 2**31 - 1) | st.booleans() | st.none()))
def test_common_types_are_encoded_byte_for_byte_as_by_py_amqp(table):
    assert encode_table(table) == dumps("F", [table])


@given(st.dictionaries(NAMES, COMMON | RARE))
def test_what_py_amqp_encodes_is_read(table):
    encoded = dumps("F", [table])
    assert decode_table(encoded, 0)[0] == table


def test_types_that_only_py_amqp_knows_are_read_through_it():
    when = dt.datetime(2026, 1, 1)  # noqa: DTZ001  # as AMQP has it
    table = {"when": when, "price": Decimal("1.5"), "text": "x"}
    assert decode_table(dumps("F", [table]), 0)[0] == table


def test_bytes_travel_as_bytes():
    assert decode_table(encode_table({"raw": b"\xff\x00"}), 0)[0] == {"raw": b"\xff\x00"}


def test_a_string_that_is_no_utf8_stays_bytes():
    assert decode_table(dumps("F", [{"raw": b"\xff"}]), 0)[0] == {"raw": b"\xff"}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, object(), {"a": {1, 2}}])
def test_a_value_without_a_form_in_amqp_is_refused_by_its_name(value):
    with pytest.raises(CannotEncode, match="'size'"):
        encode_table({"size": value})


def test_a_name_above_amqps_limit_is_refused():
    with pytest.raises(CannotEncode, match="longer than 255"):
        encode_table({"n" * 256: 1})
