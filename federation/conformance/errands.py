"""What the kit and the process that holds the driver say to each other, as msgpack over a pipe."""

from __future__ import annotations

from typing import Any

import msgspec

from federation.conformance.scripted_call import Event, Script
from federation.conformance.target import Target
from federation.contract.nodes import Description
from federation.contract.outcomes import Outcome


class Errand(msgspec.Struct, frozen=True, kw_only=True, tag="errand"):
    """Run one operation or query; ``deadline_seconds`` runs from now.

    ``bare`` calls the driver's own method, without the worker's boundary: what the driver itself refuses, and in which
    words, shows only there.
    """

    number: int
    name: str
    arguments: dict[str, Any]
    operation: str
    attempt: int = 1
    script: Script = Script()
    deadline_seconds: float | None = None
    bare: bool = False
    release: str = ""


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """Close the driver and end."""


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The driver is open."""

    description: Description


class NotOpened(msgspec.Struct, frozen=True, kw_only=True, tag="not_opened"):
    """The driver could not be opened."""

    message: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """An errand is over.

    ``outcome`` None means that it was revoked.  ``error`` is, for bare errands and driver bugs, the class and the words
    of what was raised; ``began`` and ``ended`` are CLOCK_MONOTONIC, the same for all processes of the machine.
    """

    number: int
    outcome: Outcome | None
    trace: tuple[Event, ...]
    guards: int
    began: float
    ended: float
    error: str = ""
    detail: dict[str, str] = {}
    undeclared: bool = False


Order = Errand | Close
Word = Opened | NotOpened | Done


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a new process."""

    target: Target


def encode(message: msgspec.Struct) -> bytes:
    """As it travels."""
    return msgspec.msgpack.encode(message)


decode_order = msgspec.msgpack.Decoder(Order).decode
decode_word = msgspec.msgpack.Decoder(Word).decode
decode_start = msgspec.msgpack.Decoder(Start).decode
