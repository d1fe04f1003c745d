"""What the broker sends is put together and handed to whom it belongs, also around the end of a channel."""

from __future__ import annotations

import struct

import pytest

from federation.bus.amqp.frames import BODY, DELIVER, HEADER, METHOD
from federation.bus.amqp.inbound import Inbound

CHANNEL = 2


class _NoOutbox:
    """Nothing is confirmed here."""


def _content(body):
    arguments = DELIVER + b"\x01t" + struct.pack(">QB", 1, 0) + b"\x00\x00"
    header = struct.pack(">HHQH", 60, 0, len(body), 0)
    return [(METHOD, CHANNEL, arguments), (HEADER, CHANNEL, header), (BODY, CHANNEL, body)]


@pytest.mark.parametrize("arrived", [1, 2])
def test_a_delivery_that_was_half_here_when_its_channel_was_closed_is_dropped_and_nothing_else(arrived):
    inbound, taken = Inbound(_NoOutbox()), []
    inbound.route(CHANNEL, lambda content: taken.append(("old", bytes(content.body))))
    frames = _content(b"half")
    inbound.add(frames[:arrived])
    inbound.dispatch(pytest.fail)
    inbound.route(CHANNEL, None)
    inbound.add(frames[arrived:])
    inbound.dispatch(pytest.fail)
    inbound.route(CHANNEL, lambda content: taken.append(("new", bytes(content.body))))
    inbound.add(_content(b"whole"))
    inbound.dispatch(pytest.fail)
    assert taken == [("new", b"whole")]
