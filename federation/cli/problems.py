"""Refusals that the contract's catalogue does not know."""

from __future__ import annotations

from collections.abc import Mapping

from federation.cli.exits import EXIT_REFUSED


class Problem(Exception):
    """HTTP's own refusal, a newer manager's, or no answer at all; it looks like an error of the catalogue."""

    def __init__(
        self,
        code: str,
        message: str,
        next_move: str,
        detail: Mapping[str, str] | None = None,
        exit_code: int = EXIT_REFUSED,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_move = next_move
        self.detail = dict(detail or {})
        self.exit_code = exit_code


def not_served(message: str) -> Problem:
    """The REST interface has no such use case."""
    return Problem("not_served", message, "name the broker with --context local or --broker URL")
