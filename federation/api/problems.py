"""What the interface answers when it does not do what was asked: RFC 9457 problem details with the catalogue's code.

Rules:

1. An error of the contract's catalogue keeps its code, effect and next move; ``STATUS`` gives each code its status.
2. What only HTTP can do wrong is a ``Refusal``, with a code and a next move of its own; nothing was done then.
3. 400 is a request that the document forbids, 422 one that it allows and the manager refuses.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from federation.contract.errors import CATALOGUE, Effect, OperationError

MEDIA_TYPE = "application/problem+json"

STATUS: dict[str, int] = {
    "invalid_request": 422,
    "not_found": 404,
    "already_exists": 409,
    "invalid_state": 409,
    "not_supported": 422,
    "insufficient_resources": 409,
    "image_unavailable": 422,
    "image_rejected": 422,
    "permission_denied": 502,
    "hypervisor_unreachable": 502,
    "hypervisor_refused": 502,
    "guest_refused": 409,
    "backend_unavailable": 502,
    "conflict": 409,
    "timed_out": 504,
    "cancelled": 409,
    "deadline_passed": 409,
    "parked": 409,
    "contract_mismatch": 409,
    "outcome_unknown": 502,
    "driver_bug": 502,
    "poison": 502,
    "dead_lettered": 502,
    "overloaded": 503,
    "unavailable": 503,
}
"""The status of every code of the catalogue (a test compares the two)."""

_RETRY_SECONDS = "2"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why it was not done, and the caller's next move (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Of the contract's error catalogue, or of HTTP; programs read this."""
    effect: Effect
    """What is known of the effect."""
    next_move: str
    """What the caller does next."""
    fields: dict[str, str]
    """Names, values and limits that the detail speaks of."""
    request_id: str
    """Finds the request in the manager's log."""


class Refusal(Exception):
    """A request is refused by HTTP's own rules, before any use case saw it."""

    def __init__(  # noqa: PLR0913 (all that an answer is made of)
        self,
        status: int,
        code: str,
        detail: str,
        next_move: str,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.next_move = next_move
        self.headers = headers or {}
        self.fields = fields or {}
        kind = CATALOGUE.get(code)
        self.effect = kind.effect if kind is not None else Effect.NONE


def malformed(detail: str, **fields: str) -> Refusal:
    """A request that the document forbids."""
    return Refusal(400, "invalid_request", detail, CATALOGUE["invalid_request"].next_move, None, fields)


def unauthenticated() -> Refusal:
    """No token, or none that is good."""
    return Refusal(
        401,
        "unauthenticated",
        "the request bears no token that is good: it is missing, unknown, expired or revoked",
        "Send the header Authorization: Bearer TOKEN; federation token create makes one.",
        {"WWW-Authenticate": 'Bearer realm="federation"'},
    )


def forbidden(detail: str) -> Refusal:
    """The token is good, but not for this."""
    return Refusal(403, "forbidden", detail, "Use a token with that role or of that cluster.")


def of_status(status: int, detail: str, headers: dict[str, str]) -> Refusal:
    """What Litestar refuses by itself: an unknown path or method, a body that is too large."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}
    moves = {
        404: "Read /openapi.json for the paths.",
        405: "Use a method that the header Allow names.",
        413: "Send less: the limit stands in /openapi.json.",
        415: "Send application/json.",
    }
    code = codes.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    return Refusal(status, code, detail, moves.get(status, "Correct the request."), headers)


def of_error(error: OperationError) -> Refusal:
    """An error of the catalogue as an answer."""
    status = STATUS[error.code]
    headers = {"Retry-After": _RETRY_SECONDS} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Refusal(status, error.code, error.message, error.next_move, headers, error.detail)


def uncertain(error: OperationError) -> Refusal:
    """A change that may have been accepted: nobody can say, and whoever just sends it again may have it done twice."""
    refusal = of_error(error)
    refusal.effect = Effect.UNKNOWN
    refusal.next_move = (
        "Send the same request with the same Idempotency-Key again; without a key look first whether it was accepted."
    )
    return refusal


def rendered(refusal: Refusal, request_id: str) -> bytes:
    """The body of the answer."""
    problem = Problem(
        type=f"urn:federation:problem:{refusal.code}",
        title=refusal.code.replace("_", " "),
        status=refusal.status,
        detail=refusal.detail,
        code=refusal.code,
        effect=refusal.effect,
        next_move=refusal.next_move,
        fields=refusal.fields,
        request_id=request_id,
    )
    return msgspec.json.encode(problem)
