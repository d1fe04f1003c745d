"""What became of an operation."""

from __future__ import annotations

import enum

import msgspec


class OutcomeKind(enum.StrEnum):
    """The four ends of an operation (DESIGN §3)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It was tried and ended with a code of the catalogue; what is known of the effect stands in that code."""
    REFUSED = "refused"
    """It never started: nothing happened on the hypervisor."""
    UNKNOWN = "unknown"
    """Nobody can say what happened; the instance is parked until an operator resolves it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one operation.

    ``result`` is the operation's result in builtin types (succeeded only); ``code`` is the catalogue code (all other
    kinds); ``message`` is one sentence for people; ``detail`` names fields, values and limits.
    """

    kind: OutcomeKind
    result: dict[str, object] | None = None
    code: str | None = None
    message: str = ""
    detail: dict[str, str] = {}
