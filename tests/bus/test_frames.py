from __future__ import annotations

import struct

import amqp
import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_writer
from amqp.serialization import decode_properties_basic, dumps
from hypothesis import given
from hypothesis import strategies as st

from federation.bus.amqp import frames
from federation.bus.errors import CannotEncode
from federation.bus.link import Publication

SHORT = st.text(max_size=40)
OPTIONAL = st.none() | SHORT


class _Recorder:
    """What py-amqp's own frame writer needs of a connection and a transport."""

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.bytes_sent = 0
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += bytes(data)


def _by_py_amqp(publication: Publication, channel: int, user_id: str, app_id: str | None, frame_max: int) -> bytes:
    recorder = _Recorder(frame_max)
    properties = {
        "content_type": publication.content_type,
        "application_headers": dict(publication.headers) or None,
        "delivery_mode": 2 if publication.persistent else 1,
        "correlation_id": publication.correlation_id,
        "reply_to": publication.reply_to,
        "expiration": "1500" if publication.expiration_seconds is not None else None,
        "message_id": publication.message_id,
        "user_id": user_id,
        "app_id": app_id,
    }
    message = Message(publication.body, **{name: value for name, value in properties.items() if value is not None})
    arguments = dumps("Bssbb", (0, publication.exchange, publication.routing_key, publication.mandatory, False))
    frame_writer(recorder, recorder)(1, channel, spec.Basic.Publish, arguments, message)
    return recorder.written


@given(
    publication=st.builds(
        Publication,
        exchange=SHORT,
        routing_key=SHORT,
        body=st.binary(max_size=400),
        headers=st.dictionaries(SHORT, st.text(max_size=9) | st.integers(-9, 9), max_size=3),
        message_id=OPTIONAL,
        correlation_id=OPTIONAL,
        reply_to=OPTIONAL,
        persistent=st.booleans(),
        mandatory=st.booleans(),
        expiration_seconds=st.none() | st.just(1.5),
    ),
    app_id=st.none() | st.just("7"),
)
def test_a_publication_is_encoded_byte_for_byte_as_by_py_amqp(publication, app_id):
    ours = frames.encode_publication(3, publication, user_id="worker", app_id=app_id, frame_max=131072)
    assert ours == _by_py_amqp(publication, 3, "worker", app_id, 131072)


@pytest.mark.parametrize("size", [4087, 4088, 4089, 8176, 8177, 100_000])
def test_a_large_body_is_cut_into_frames_that_the_connection_allows(size):
    body = bytes(range(256)) * (size // 256 + 1)
    encoded = frames.encode_publication(1, Publication("x", "k", body[:size]), user_id="u", app_id=None, frame_max=4096)
    cut, rest = frames.split_frames(encoded)
    assert rest == b""
    assert all(len(payload) + frames.FRAME_OVERHEAD <= 4096 for _, _, payload in cut)
    assert b"".join(payload for kind, _, payload in cut if kind == frames.BODY) == body[:size]


def test_an_empty_body_has_no_body_frame():
    encoded = frames.encode_publication(1, Publication("x", "k", b""), user_id="u", app_id=None, frame_max=4096)
    assert [kind for kind, _, _ in frames.split_frames(encoded)[0]] == [frames.METHOD, frames.HEADER]


def test_settlings_are_encoded_as_by_py_amqp():
    for encode, method in ((frames.encode_ack, spec.Basic.Ack), (frames.encode_reject, spec.Basic.Reject)):
        recorder = _Recorder(4096)
        frame_writer(recorder, recorder)(1, 9, method, dumps("Lb", (2**40, False)), None)
        assert encode(9, 2**40) == recorder.written


@pytest.mark.parametrize(
    "publication",
    [
        Publication("x" * 256, "k", b""),
        Publication("x", "k" * 256, b""),
        Publication("x", "k", b"", message_id="m" * 256),
        Publication("x", "k", b"", headers={"text": "h" * 5000}),
    ],
)
def test_what_does_not_fit_amqps_limits_is_refused_before_it_is_sent(publication):
    with pytest.raises(CannotEncode):
        frames.encode_publication(1, publication, user_id="u", app_id=None, frame_max=4096)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 8]), st.integers(0, 5), st.binary(max_size=50))), st.data())
def test_frames_come_out_whole_wherever_the_network_cuts_them(sent, data):
    stream = b"".join(struct.pack(">BHI", kind, channel, len(p)) + p + b"\xce" for kind, channel, p in sent)
    received, rest = [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        piece, stream = stream[:size], stream[size:]
        whole, rest = frames.split_frames(rest + piece)
        received += whole
    assert (received, rest) == (sent, b"")


def test_a_frame_without_its_end_octet_is_an_error():
    with pytest.raises(UnexpectedFrame, match="0x00"):
        frames.split_frames(struct.pack(">BHI", 1, 1, 1) + b"x\x00" + b"more")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "content_type": SHORT,
            "content_encoding": SHORT,
            "application_headers": st.dictionaries(SHORT, st.integers(-9, 9)),
            "delivery_mode": st.integers(1, 2),
            "priority": st.integers(0, 9),
            "correlation_id": SHORT,
            "reply_to": SHORT,
            "expiration": SHORT,
            "message_id": SHORT,
            "timestamp": st.integers(0, 2**40),
            "type": SHORT,
            "user_id": SHORT,
            "app_id": SHORT,
            "cluster_id": SHORT,
        },
    )
)
def test_every_property_is_read_as_by_py_amqp(properties):
    encoded = Message("", **properties)._serialize_properties()
    expected = decode_properties_basic(encoded, 0)[0]
    ours = frames.decode_properties(encoded, 0)
    if "headers" in ours:
        ours["application_headers"] = ours.pop("headers")
    assert ours == expected


def test_a_delivery_is_read_as_it_was_sent():
    arguments = dumps("sLbss", ("queue", 77, True, "exchange", "some.key"))
    assert frames.decode_deliver(frames.DELIVER + arguments) == ("queue", 77, True, "exchange", "some.key")


@pytest.mark.parametrize(("multiple", "expected"), [(True, (5, True)), (False, (5, False))])
def test_a_confirm_is_read_as_it_was_sent(multiple, expected):
    assert frames.decode_confirm(frames.ACK + dumps("Lb", (5, multiple))) == expected


def test_properties_beyond_reason_count_as_absent_and_do_not_end_the_connection():
    header = b"\x00\x3c\x00\x00" + struct.pack(">Q", 0) + struct.pack(">H", 0x2000)
    table = b"\x01dT" + struct.pack(">Q", 2**63)  # a date beyond the calendar
    content = frames.Content(frames.DELIVER, b"")
    assert content.add_header(header + struct.pack(">I", len(table)) + table)
    assert content.properties == {}


def test_more_body_than_announced_is_an_error_of_the_connection():
    content = frames.Content(frames.DELIVER, b"", size=2)
    with pytest.raises(amqp.exceptions.UnexpectedFrame):
        content.add_body(b"abc")
