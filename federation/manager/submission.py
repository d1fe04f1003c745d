"""What a caller asks for, and what can be said of it without looking into the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from federation.contract.errors import InvalidRequest
from federation.contract.operations import Operation, Ordering
from federation.contract.requests import NodeRequest, Request
from federation.manager.adapting import Asked
from federation.manager.auditing import Asker
from federation.manager.counters import Caller
from federation.protocol.ordering_key import node_key, words_of
from federation.protocol.records import OperationRecord

_MAX_DEADLINE_SECONDS = 7 * 86400.0
MAX_REQUEST_BYTES = 1 << 19
"""Half of what a message may have: what was accepted must be sendable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller asks for.

    ``cluster`` may be left out for an instance that exists; ``revision`` is the one that the caller speaks;
    ``deadline_seconds`` runs from acceptance and None takes the operation's default; the same ``idempotency_key`` never
    makes two operations in one cluster; ``asked`` says who asks, for the audit log.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    cluster: str | None = None
    revision: int = 1
    deadline_seconds: float | None = None
    idempotency_key: str | None = None
    requested_by: str | None = None
    trace: str | None = None
    caller: Caller = Caller.PROGRAM
    asked: Asker | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A submission whose request has been read and found to be well formed."""

    submission: Submission
    asked: Asked

    @property
    def instance(self) -> str | None:
        """The instance that must be there already, None where there is none of that kind."""
        operation = self.asked.operation
        if operation.ordering is not Ordering.INSTANCE or operation.makes_instance:
            return None
        identity: str = self.asked.request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
        return identity

    def deadline_seconds(self) -> float:
        """From acceptance; raises InvalidRequest."""
        seconds = self.submission.deadline_seconds
        if seconds is None:
            return self.asked.operation.default_deadline_seconds
        if not 0 < seconds <= _MAX_DEADLINE_SECONDS:
            message = f"deadline_seconds is {seconds}, expected more than 0 and at most {_MAX_DEADLINE_SECONDS:.0f}"
            raise InvalidRequest(message, field="deadline_seconds", value=seconds)
        return seconds

    def same_as(self, earlier: OperationRecord, cluster: str) -> OperationRecord:
        """What was accepted with this idempotency key, if it is what is asked for now; raises InvalidRequest."""
        request, key = self.asked.request, earlier.key
        if isinstance(request, NodeRequest):
            key = node_key(cluster, request.node)
        elif self.asked.operation.name != "create" or "instance" in self.submission.arguments:
            # A new instance's id may have been made just now.
            key = request.instance  # type: ignore[attr-defined]  # ordered by instance: it has one
        if (earlier.name, earlier.key) != (self.asked.operation.name, key):
            message = (
                f"idempotency key {self.submission.idempotency_key!r} was used for {earlier.name} of "
                f"{words_of(earlier.key)} (operation {earlier.id}); use a new key for a new operation"
            )
            raise InvalidRequest(message, field="idempotency_key", value=self.submission.idempotency_key)
        return earlier


def check_size(operation: Operation, request: Request) -> None:
    """Raise InvalidRequest for what could not be sent to a worker."""
    size = len(msgspec.msgpack.encode(request))
    if size > MAX_REQUEST_BYTES:
        message = f"{operation.name}: the request has {size} bytes, at most {MAX_REQUEST_BYTES} can be sent to a worker"
        raise InvalidRequest(message, size=size, limit=MAX_REQUEST_BYTES)
