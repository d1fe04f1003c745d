"""The query lane: reads that any worker of a cluster answers."""

from __future__ import annotations

from typing import Any

import msgspec

from federation.contract.errors import CATALOGUE, DriverBug, OperationError


class QueryError(msgspec.Struct, frozen=True, kw_only=True):
    """An error of the catalogue on the wire."""

    code: str
    message: str
    detail: dict[str, str] = {}


class QueryReply(msgspec.Struct, frozen=True, kw_only=True):
    """Either a result in builtin types or an error."""

    result: dict[str, Any] | None = None
    error: QueryError | None = None


def error_on_wire(error: OperationError) -> QueryError:
    """The form in which an error travels."""
    return QueryError(code=error.code, message=error.message, detail=error.detail)


def error_from_wire(error: QueryError) -> OperationError:
    """The error again; a code that this catalogue does not have is a driver bug."""
    kind = CATALOGUE.get(error.code)
    if kind is None:
        return DriverBug(f"unknown error code {error.code!r}: {error.message}")
    again = kind(error.message)
    again.detail = dict(error.detail)  # not by keyword: a worker may call a detail "message"
    return again
