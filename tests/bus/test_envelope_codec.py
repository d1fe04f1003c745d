from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from federation.bus import codec
from federation.bus.envelope_codec import (
    ANSWER_TARGET,
    COMMAND_TARGET,
    RESULT_TARGET,
    decode_answer,
    decode_command,
    decode_result,
    encode_answer,
    encode_command,
    encode_result,
)
from federation.bus.errors import BadMessage, BodyTooLarge
from federation.bus.field_table import decode_table, encode_table
from federation.bus.link import Delivery, Publication
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.protocol.envelope import Answer, Command, Progress, Question, Report

TEXT = st.text(max_size=20)
POSITIVE = st.integers(1, 2**31)
SECONDS = st.none() | st.floats(0, 2e9)
CLUSTER = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
BUILTINS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x)
)
COMMANDS = st.builds(
    Command,
    operation=TEXT,
    name=TEXT,
    revision=POSITIVE,
    release=st.just(COMMAND_TARGET.version),
    cluster=CLUSTER,
    epoch=POSITIVE,
    partition=st.integers(0, 63),
    key=TEXT,
    sequence=POSITIVE,
    round=POSITIVE,
    deadline=SECONDS,
    arguments=st.dictionaries(TEXT, BUILTINS, max_size=4),
    trace=st.none() | TEXT,
)
ABOUT = {"worker": TEXT, "cluster": CLUSTER, "partition": st.integers(0, 63), "operation": TEXT, "key": TEXT}
OUTCOMES = st.builds(
    Outcome,
    kind=st.sampled_from(OutcomeKind),
    result=st.none() | st.dictionaries(TEXT, BUILTINS, max_size=3),
    code=st.none() | TEXT,
    message=TEXT,
    detail=st.dictionaries(TEXT, TEXT, max_size=3),
)
RESULTS = (
    st.builds(
        Question,
        id=TEXT,
        sequence=POSITIVE,
        round=POSITIVE,
        delivery_count=st.integers(0, 99),
        renews=st.none() | POSITIVE,
        percent=SECONDS,
        stage=st.none() | TEXT,
        **ABOUT,
    )
    | st.builds(Report, sequence=POSITIVE, attempt=POSITIVE, outcome=OUTCOMES, **ABOUT)
    | st.builds(Progress, attempt=POSITIVE, percent=SECONDS, stage=st.none() | TEXT, **ABOUT)
)
COMMAND = Command(
    operation="op-1",
    name="power_on",
    revision=1,
    release="1.0",
    cluster="east",
    epoch=1,
    partition=3,
    key="instance",
    sequence=7,
    round=2,
    deadline=1.5e9,
    arguments={"instance": "i"},
    trace="t",
)


def _arrived(publication: Publication) -> Delivery:
    """The delivery of a publication, its headers having gone over the wire."""
    return Delivery(
        queue="q",
        tag=1,
        body=publication.body,
        exchange=publication.exchange,
        routing_key=publication.routing_key,
        headers=decode_table(encode_table(publication.headers), 0)[0],
        message_id=publication.message_id,
        correlation_id=None,
        reply_to=None,
        user_id="u",
        content_type=publication.content_type,
        redelivered=False,
        delivery_count=0,
    )


@given(COMMANDS)
def test_a_command_comes_back_as_it_was(command):
    assert decode_command(_arrived(encode_command(command))) == (command, None)


@given(RESULTS)
def test_a_result_comes_back_as_it_was(result):
    assert decode_result(_arrived(encode_result(result))) == result


@given(
    st.builds(
        Answer,
        question=TEXT,
        operation=TEXT,
        key=TEXT,
        verdict=st.sampled_from(["grant", "gap", "stale", "revoked"]),
        attempt=POSITIVE,
        wait_seconds=st.floats(0, 9),
        cancel=st.booleans(),
        reason=TEXT,
    )
)
def test_an_answer_comes_back_as_it_was(answer):
    assert decode_answer(_arrived(encode_answer("lab", "worker", answer))) == answer


def test_a_command_is_an_rpc_message_of_oslo_messaging():
    publication = encode_command(COMMAND)
    assert codec.decode(publication.body) == {
        "method": "power_on",
        "args": {"instance": "i"},
        "namespace": "federation.driver",
        "version": "1.0",
    }
    assert (publication.exchange, publication.routing_key) == ("federation.commands", "east.1.3")
    assert publication.headers["federation-sequence"] == 7
    assert publication.mandatory
    assert publication.persistent


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\xc1", "not msgpack"),
        (codec.encode([1]), "list, not a map"),
        (codec.encode({"args": {}}), "'method'"),
        (codec.encode({"method": "power_on", "args": [1]}), "'args' is list"),
        (codec.encode({"method": "power_on", "args": {}}), "namespace is None"),
        ({"namespace": "other"}, "namespace is 'other'"),
        ({"version": "2.0"}, "version 2.0 of federation.driver is not served"),
        ({"version": "1.99"}, "version 1.99 of federation.driver is not served"),
        ({"version": "one"}, "'one' is not a version"),
        ({"version": 1}, "'version' is int"),
        ({"method": "power_off"}, "the body calls 'power_off' and the headers 'power_on'"),
    ],
)
def test_a_body_that_cannot_be_used_leaves_the_command_of_the_headers_and_says_why(body, word):
    publication = encode_command(COMMAND)
    if isinstance(body, dict):
        body = codec.encode({**codec.decode(publication.body), **body})
    command, error = decode_command(_arrived(replace(publication, body=body)))
    assert command == msgspec.structs.replace(COMMAND, arguments={})
    assert word in error


def test_a_body_above_the_limit_leaves_the_command_of_the_headers():
    command, error = decode_command(_arrived(encode_command(COMMAND)), limit_bytes=5)
    assert command is not None
    assert "above the limit of 5" in error
    with pytest.raises(BodyTooLarge):
        encode_command(COMMAND, limit_bytes=5)


FORGED = [
    ("operation", 5, "operation"),
    ("operation", b"\xff", "operation"),
    ("sequence", "7", "sequence"),
    ("sequence", True, "sequence"),
    ("sequence", 0, "sequence is 0"),
    ("sequence", 1.5, "sequence"),
    ("round", -1, "round is -1"),
    ("partition", -1, "partition is -1"),
    ("revision", 0, "revision is 0"),
    ("deadline", "soon", "deadline"),
    ("deadline", float("nan"), "deadline is nan"),
    ("deadline", float("inf"), "deadline is inf"),
    ("trace", {"a": 1}, "trace"),
    ("cluster", None, "cluster"),
    ("key", [1], "key"),
]


@pytest.mark.parametrize(("name", "value", "word"), FORGED)
def test_a_forged_header_gives_no_command_and_is_named(name, value, word):
    publication = encode_command(COMMAND)
    headers = {**publication.headers, f"federation-{name}": value}
    command, error = decode_command(_arrived(replace(publication, headers=headers)))
    assert command is None
    assert word in error


@pytest.mark.parametrize("name", ["operation", "name", "release", "cluster", "epoch", "key", "sequence", "round"])
def test_a_missing_header_gives_no_command_and_is_named(name):
    publication = encode_command(COMMAND)
    headers = {header: value for header, value in publication.headers.items() if header != f"federation-{name}"}
    command, error = decode_command(_arrived(replace(publication, headers=headers)))
    assert command is None
    assert name in error


@given(
    headers=st.dictionaries(
        st.sampled_from([f"federation-{name}" for name in Command.__struct_fields__]) | TEXT,
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXT | st.binary(max_size=9),
    ),
    body=st.binary(max_size=60),
)
def test_no_headers_and_no_body_whatever_make_decoding_raise(headers, body):
    publication = Publication("federation.commands", "east.1.3", body, headers)
    command, error = decode_command(_arrived(publication))
    assert (command is None) <= (error is not None)


def test_headers_of_others_such_as_dead_lettering_change_nothing():
    publication = encode_command(COMMAND)
    headers = {**publication.headers, "x-death": [{"reason": "rejected"}], "federation-unheard-of": 1}
    assert decode_command(_arrived(replace(publication, headers=headers))) == (COMMAND, None)


QUESTION = Question(
    id="q", worker="w", cluster="east", partition=3, operation="o", key="k", sequence=1, round=1, delivery_count=0
)


@pytest.mark.parametrize("key", ["outcome.west.3", "outcome.east.4", "outcome.east", "other.east.3", "outcome.east.x"])
def test_a_result_that_speaks_for_another_place_than_its_routing_key_is_refused(key):
    with pytest.raises(BadMessage, match="routing key"):
        decode_result(_arrived(replace(encode_result(QUESTION), routing_key=key)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"method": "shout"}, "no result called 'shout'"),
        ({"namespace": ANSWER_TARGET.namespace}, "namespace"),
        ({"version": "9.0"}, "version 9.0"),
        ({"args": {"id": 1}}, r"no question: .*id"),
        ({"args": {}}, "no question"),
    ],
)
def test_a_result_that_is_none_is_refused_and_says_why(change, word):
    publication = encode_result(QUESTION)
    body = codec.encode({**codec.decode(publication.body), **change})
    with pytest.raises(BadMessage, match=word):
        decode_result(_arrived(replace(publication, body=body)))


@given(st.binary(max_size=60))
def test_no_bytes_whatever_make_decoding_a_result_or_an_answer_raise_anything_but_a_bad_message(body):
    for decode in (decode_result, decode_answer):
        with pytest.raises(BadMessage):
            decode(_arrived(Publication("x", "outcome.east.3", body)))


def test_fields_that_a_newer_release_adds_are_passed_over():
    publication = encode_result(QUESTION)
    body = codec.decode(publication.body)
    body["args"]["mood"] = "good"
    assert decode_result(_arrived(replace(publication, body=codec.encode(body)))) == QUESTION
    assert body["version"] == RESULT_TARGET.version
