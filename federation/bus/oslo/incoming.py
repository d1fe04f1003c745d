"""Messages on their way from the broker to oslo.messaging's dispatchers, and when each is settled.

oslo.messaging's RPC server calls ``acknowledge`` before it dispatches and ``reply`` after, for casts too.  So

* a plain request is settled by ``acknowledge``: at most once, as oslo.messaging documents RPC;
* an ordered request is settled by ``reply``: when its process dies before, the broker delivers it again;
* a notification is settled by ``acknowledge`` or ``requeue``, which its server calls after the endpoint returned.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from oslo_messaging._drivers import base

from federation.bus.link import Delivery
from federation.bus.oslo import body
from federation.bus.oslo.errors import DeliveryTakenBackError, TransportError
from federation.bus.oslo.reply_sender import ReplySender
from federation.bus.oslo.tenure import Tenure

LOG = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """A delivery, the request in it, and whether it is still ours."""

    delivery: Delivery
    request: body.Request
    tenure: Tenure


class Settler(Protocol):
    """What a request asks of the listener that brought it; any thread may call."""

    def begun(self, held: Held) -> bool:
        """A plain request is about to be dispatched: settle it; False when a copy of it was dispatched before."""

    def finished(self, held: Held, key: str) -> None:
        """An ordered request was dispatched: settle it and go on with its key."""

    def skipped(self, key: str) -> None:
        """An ordered request was taken back before its dispatch: go on with its key."""

    def soon(self, work: Callable[[], None]) -> None:
        """Do this on another thread; safe in a finaliser."""


class RpcRequest(base.RpcIncomingMessage):  # type: ignore[misc]  # oslo.messaging has no types
    """A plain request: settled when its dispatch begins."""

    settled_after_reply = False

    def __init__(self, held: Held, settler: Settler, replies: ReplySender, limit_bytes: int) -> None:
        super().__init__(held.request.context, held.request.message, held.delivery.message_id)
        self.held = held
        self.client_timeout = held.request.monitor
        self._settler = settler
        self._replies = replies
        self._limit_bytes = limit_bytes

    def acknowledge(self) -> None:
        """Settle before dispatch; raises, so that the server skips it, when the broker has taken the message back."""
        if self.held.tenure.ended:
            raise DeliveryTakenBackError(f"message {self.msg_id} was taken back by the broker and is delivered again")
        if not self._settler.begun(self.held):
            raise DeliveryTakenBackError(f"a copy of message {self.msg_id} was dispatched before")

    def requeue(self) -> None:
        """RPC is not requeued: oslo.messaging never asks for it."""
        LOG.warning("an RPC request cannot be requeued; message %s goes on", self.msg_id)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Send what the endpoint returned or raised, if a caller waits for it."""
        delivery = self.held.delivery
        if delivery.reply_to is None:
            return
        if failure:
            encoded = body.encode_failure(failure, self._limit_bytes)
        else:
            try:
                encoded = body.encode_reply(reply, self._limit_bytes)
            except TransportError as error:
                LOG.error("the result of message %s cannot be sent: %s", self.msg_id, error)  # noqa: TRY400
                encoded = body.encode_refusal(error, self._limit_bytes)
        self._replies.reply(delivery.reply_to, delivery.correlation_id, encoded, more=self.settled_after_reply)

    def heartbeat(self) -> None:
        """Tell the caller that the endpoint is still at work."""
        delivery = self.held.delivery
        if delivery.reply_to is not None:
            self._replies.heartbeat(delivery.reply_to, delivery.correlation_id)


class OrderedRequest(RpcRequest):
    """A request with an ordering key: settled when its dispatch has ended, whatever came of it."""

    settled_after_reply = True

    def __init__(self, held: Held, settler: Settler, replies: ReplySender, limit_bytes: int) -> None:
        super().__init__(held, settler, replies, limit_bytes)
        self.key = body.ordering_key(held.request.context) or held.delivery.queue
        self._running = False
        self._thread: threading.Thread | None = None

    def acknowledge(self) -> None:
        """Nothing yet; raises, so that the server skips it, when the broker has taken the message back."""
        if self.held.tenure.ended:
            self._settler.skipped(self.key)
            raise DeliveryTakenBackError(f"message {self.msg_id} was taken back by the broker and is delivered again")
        self._thread = threading.current_thread()
        self._running = True

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Send the reply, if one is wanted, then settle."""
        try:
            super().reply(reply, failure)
        finally:
            self._running = False
            self._settler.finished(self.held, self.key)

    def finish_if_abandoned(self) -> None:
        """An endpoint that raises SystemExit ends its executor's thread, and oslo.messaging tells nobody."""
        if self._running and self._thread is not None and not self._thread.is_alive():
            self._give_up()
            self._settler.finished(self.held, self.key)

    def __del__(self) -> None:
        """Nor does it tell of other exceptions that are no Exception: then nobody holds this message any more."""
        if self._running:
            self._give_up()
            self._settler.soon(partial(self._settler.finished, self.held, self.key))

    def _give_up(self) -> None:
        self._running = False
        LOG.error("the endpoint of message %s ended without a reply; it counts as done", self.msg_id)
