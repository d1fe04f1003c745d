"""One TCP or TLS connection to one broker: py-amqp's handshake and channels on a socket that never blocks.

After the handshake every byte goes through :attr:`Wire.out` and every frame through :meth:`Wire.receive`; a waiting
py-amqp method (a declare, say) runs the owner's pump instead of reading by itself, so that publications, settlings
and heartbeats go on meanwhile.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, TypeVar

import amqp
from amqp import spec
from amqp.exceptions import (
    ConnectionError as AmqpConnectionError,
)
from amqp.exceptions import (
    RecoverableConnectionError,
    ResourceError,
    error_for_code,
)

from federation.bus.amqp.frames import split_frames
from federation.bus.errors import BrokerRefused, TopologyMismatch

LOG = logging.getLogger(__name__)
PUBLISH_CHANNEL = 1
_RECEIVE_BYTES = 256 * 1024
_SEND_BYTES = 256 * 1024
_TRY_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PRECONDITION_FAILED = 406

T = TypeVar("T")
Limited = Callable[[float], AbstractContextManager[None]]
"""Within its context, what waits for the broker longer than so many seconds raises BusTimeout."""


def refusal(code: int, text: str) -> BrokerRefused:
    """The error for one reply code of the broker (406 of a declare is a mismatch)."""
    kind = TopologyMismatch if code == _PRECONDITION_FAILED and "inequivalent arg" in text else BrokerRefused
    return kind(code, text)


class WireChannel(amqp.Channel):  # type: ignore[misc]  # py-amqp has no types
    """A channel whose end is told to its owner instead of raised into whoever happens to be reading."""

    # py-amqp reads of a basic.cancel only the consumer's tag, not whether an answer is waited for.
    _METHODS = amqp.Channel._METHODS | {spec.Basic.Cancel: spec.method(spec.Basic.Cancel, "sb")}  # noqa: SLF001
    closed_by: BrokerRefused | None = None
    on_lost: Callable[[BrokerRefused], None] | None = None
    on_cancelled: Callable[[str], None] | None = None

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:  # noqa: ARG002  # py-amqp's
        self.send_method(spec.Channel.CloseOk)
        self.closed_by = refusal(reply_code, reply_text)
        self.collect()
        if self.on_lost is not None:
            self.on_lost(self.closed_by)

    def _on_basic_cancel(self, consumer_tag: str, nowait: bool) -> None:  # noqa: FBT001  # AMQP's bit
        # RabbitMQ 4.3 cancels a consumer that timed out only when the client has agreed.
        if not nowait:
            self.send_method(spec.Basic.CancelOk, "s", (consumer_tag,))
        if self.on_cancelled is not None:
            self.on_cancelled(consumer_tag)

    def abandon(self) -> None:
        """Close without waiting for the answer."""
        if self.is_open and self.connection is not None:
            self.is_closing = True
            self.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))


class Wire(amqp.Connection):  # type: ignore[misc]  # py-amqp has no types
    """A connection on a non-blocking socket, pumped by its owner."""

    Channel = WireChannel

    def __init__(self, pump: Callable[[], None], **options: Any) -> None:  # py-amqp's own keywords
        super().__init__(**options)
        self.out = bytearray()
        self.blocked = False
        self.announced = ""
        """The broker's product and version."""
        self._pump: Callable[[], None] | None = None
        self._owner_pump = pump
        self._rest = b""
        self._progress_at = monotonic()

    def open(self) -> None:
        """Shake hands within the connect timeout (blocking), then hand the socket to the pump."""
        self.connect()
        transport = self.transport
        self._rest = bytes(transport._read_buffer)  # noqa: SLF001  # what the handshake read too much
        transport._write = self.out.extend  # noqa: SLF001  # from here on py-amqp's frames queue with ours
        transport.sock.setblocking(False)  # noqa: FBT003
        self._pump = self._owner_pump

    def drain_events(self, timeout: float | None = None) -> None:
        """py-amqp waits for an answer: during the handshake by reading, later by the owner's pump."""
        if self._pump is None:
            super().drain_events(timeout=timeout)
        else:
            self._pump()

    def channel(self, channel_id: int | None = None, callback: Any = None) -> WireChannel:
        """Open a channel; translated errors when the broker refuses it."""
        channel: WireChannel = super().channel(channel_id, callback)
        return channel

    def _get_free_channel_id(self) -> int:
        used = set(self._used_channel_ids)
        for channel_id in range(PUBLISH_CHANNEL + 1, self.channel_max + 1):
            if channel_id not in used:
                self._used_channel_ids.append(channel_id)
                return channel_id
        raise ResourceError(f"all {self.channel_max} channels of the connection are in use", spec.Channel.Open)

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        self.send_method(spec.Connection.CloseOk)
        self.flush()
        raise error_for_code(reply_code, reply_text, (class_id, method_id), AmqpConnectionError)

    def _on_blocked(self) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False
        self._progress_at = monotonic()

    def flush(self) -> bool:
        """Send what the socket takes; True when nothing is left."""
        out = self.out
        if not out:
            return True
        send = self.sock.send
        while out:
            try:
                with memoryview(out) as view, view[:_SEND_BYTES] as piece:
                    sent = send(piece)
            except _TRY_LATER:
                return False
            del out[:sent]
            self.bytes_sent += 1
            self._progress_at = monotonic()
        return True

    def unread_for(self, now: float) -> float:
        """How many seconds the broker has left our bytes unread (0 when none wait, or it said that it is blocked)."""
        if not self.out or self.blocked:
            self._progress_at = now
            return 0.0
        return now - self._progress_at

    def receive(self) -> list[tuple[int, int, bytes]]:
        """Read what has arrived, without waiting, as whole frames."""
        sock = self.sock
        try:
            data = sock.recv(_RECEIVE_BYTES)
        except _TRY_LATER:
            return []
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        frames, self._rest = split_frames(self._rest + data if self._rest else data)
        self.bytes_recv += len(frames) or 1
        return frames

    def take_left_over(self) -> list[tuple[int, int, bytes]]:
        """Frames that came with the handshake's last bytes."""
        frames, self._rest = split_frames(self._rest)
        return frames

    @property
    def has_unread_input(self) -> bool:
        """Whether TLS holds decrypted bytes that select() cannot see."""
        sock = self.sock
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    @property
    def sock(self) -> socket.socket:
        """The socket; raises ConnectionResetError when there is none any more (py-amqp would connect again)."""
        transport = self._transport
        if transport is None or transport.sock is None:
            raise ConnectionResetError("the connection was closed")
        sock: socket.socket = transport.sock
        return sock

    def cut(self) -> None:
        """End the connection as a failing network would; from any thread."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            LOG.info("the connection was gone already: %s", error)

    def drop(self) -> None:
        """Close the socket at once, without a word to the broker."""
        transport = self._transport
        if transport is not None and transport.sock is not None:
            transport.sock.close()
            transport.sock = None
        self.collect()


def on_fresh_channel(wire: Wire, run: Callable[[WireChannel], T]) -> T:
    """Run broker methods on a channel of their own, so that a refusal closes nothing else.

    Raises BrokerRefused (or TopologyMismatch) when the broker closes it.
    """
    channel = wire.channel()
    try:
        result = run(channel)
        channel.close()
    except RecoverableConnectionError as error:
        if channel.closed_by is not None:
            raise channel.closed_by from error
        raise
    except BaseException:
        channel.abandon()
        raise
    return result
