"""The way from a command to a manager: its door, over the bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.bootstrap.topics import MANAGER_TOPIC
from federation.bus.connect import open_link
from federation.bus.rpc import Rpc
from federation.contract.struct_types import prepare_types
from federation.protocol.queries import QueryReply, error_from_wire

_CONNECT_TIMEOUT = 10.0


def check_broker(broker_url: str, timeout: float) -> None:
    """Fail with what each host said, instead of waiting for an answer that cannot come; raises BusError."""
    link = open_link(broker_url, "federation command")
    try:
        link.start(min(timeout, _CONNECT_TIMEOUT))
    finally:
        link.close(1.0)


class ManagerClient:
    """Calls a manager's door over the bus: for the command line; raises BusError when the broker cannot be reached."""

    def __init__(self, broker_url: str, timeout: float = 15.0, asker: str | None = None) -> None:
        """``timeout``: seconds for one answer, and for reaching the broker; ``asker`` asks, for the manager's audit log."""
        prepare_types()
        check_broker(broker_url, timeout)
        self._rpc = Rpc(broker_url)
        self._timeout = timeout
        self._asked = {} if asker is None else {"asked": {"by": asker}}

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call one method; the reply is a QueryReply in builtin types.  Raises Unavailable."""
        return self._rpc.call(MANAGER_TOPIC, method, {**arguments, **self._asked}, self._timeout)

    def close(self) -> None:
        """Disconnect."""
        self._rpc.close()


def value_of(reply: Mapping[str, Any]) -> Any:
    """The value in a door's reply; raises the error of the catalogue that it carries."""
    parsed = msgspec.convert(reply, QueryReply)
    if parsed.error is not None:
        raise error_from_wire(parsed.error)
    return (parsed.result or {}).get("value")
