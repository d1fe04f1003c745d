"""The way to a manager over the broker, for who operates it on its own host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from federation.bootstrap.client import ManagerClient, value_of
from federation.contract.errors import Unavailable
from federation.protocol.records import OperationState

Record = dict[str, Any]

_FIRST_POLL = 0.1
_SLOWEST_POLL = 1.0
_PATIENCE = 60.0
"""Seconds without a manager's answer before whoever follows an operation gives up."""


class BusWay:
    """Calls a manager's door over the bus."""

    def __init__(self, broker_url: str, timeout: float, user: str) -> None:
        self._client = ManagerClient(broker_url, timeout, f"user {user}")

    def ask(self, use_case: str, arguments: Record) -> Any:
        """Carry out a use case; raises OperationError."""
        return value_of(self._client.call(use_case, arguments))

    def follow(self, operation: Record, say: Callable[[str], None]) -> Iterator[Record]:
        """The operation, looked at again and again to its outcome; raises OperationError."""
        interval = _FIRST_POLL
        while not OperationState(operation["state"]).settled:
            time.sleep(interval)
            interval = min(_SLOWEST_POLL, interval * 1.3)
            operation = self._look(operation["id"], say)
            yield operation

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _look(self, operation: str, say: Callable[[str], None]) -> Record:
        """A manager that restarts is waited for, because the operation goes on without us."""
        deadline, told = time.monotonic() + _PATIENCE, False
        while True:
            try:
                record: Record = self.ask("operation", {"operation": operation})
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                if not told:
                    say("the manager does not answer; still waiting")
                told = True
                time.sleep(_SLOWEST_POLL)
            else:
                return record
