"""What a channel answers to the broker, without a broker."""

from __future__ import annotations

from amqp import spec
from amqp.serialization import dumps

from federation.bus.amqp.wire import WireChannel, refusal
from federation.bus.errors import BrokerRefused, TopologyMismatch


class _Connection:
    """What py-amqp's channel needs of its connection; records the methods that it sends."""

    confirm_publish = False

    def __init__(self) -> None:
        self.channels: dict[int, object] = {}
        self.sent: list[tuple[tuple[int, int], bytes]] = []
        self._used_channel_ids = [5]

    def _claim_channel_id(self, channel_id: int) -> None:
        pass

    def frame_writer(
        self, _kind: int, _channel: int, method: tuple[int, int], arguments: bytes, _content: None
    ) -> None:
        self.sent.append((method, arguments))


def _channel() -> tuple[_Connection, WireChannel]:
    connection = _Connection()
    return connection, WireChannel(connection, 5)


def _receive(channel: WireChannel, method: tuple[int, int], form: str, *arguments: object) -> None:
    channel.dispatch_method(method, b"\0\0\0\0" + dumps(form, arguments), None)


def test_a_cancel_that_waits_for_an_answer_gets_one_and_is_told():
    connection, channel = _channel()
    cancelled: list[str] = []
    channel.on_cancelled = cancelled.append
    _receive(channel, spec.Basic.Cancel, "sb", "tag", 0)
    assert connection.sent == [(spec.Basic.CancelOk, dumps("s", ("tag",)))]
    assert cancelled == ["tag"]


def test_a_cancel_that_waits_for_nothing_is_told_only():
    connection, channel = _channel()
    cancelled: list[str] = []
    channel.on_cancelled = cancelled.append
    _receive(channel, spec.Basic.Cancel, "sb", "tag", 1)
    assert (connection.sent, cancelled) == ([], ["tag"])


def test_a_channel_closed_by_the_broker_agrees_and_tells_its_owner_instead_of_raising():
    connection, channel = _channel()
    losses: list[BrokerRefused] = []
    channel.on_lost = losses.append
    _receive(channel, spec.Channel.Close, "BsBB", 404, "NOT_FOUND - no queue", 60, 20)
    assert [method for method, _ in connection.sent] == [spec.Channel.CloseOk]
    assert (losses[0].code, channel.closed_by) == (404, losses[0])
    assert connection.channels == {}


def test_only_the_refusal_of_a_redeclaration_is_a_mismatch():
    assert type(refusal(406, "PRECONDITION_FAILED - inequivalent arg 'x' for queue")) is TopologyMismatch
    assert type(refusal(406, "PRECONDITION_FAILED - delivery acknowledgement timed out")) is BrokerRefused
    assert type(refusal(403, "ACCESS_REFUSED")) is BrokerRefused
