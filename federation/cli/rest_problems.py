"""What the REST interface answers when it does not do what was asked, as errors for the command line."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import msgspec

from federation.cli.exits import EXIT_UNREACHED
from federation.cli.problems import Problem
from federation.contract.errors import CATALOGUE, OperationError

_PROBLEM = "application/problem+json"
_SHOWN_DETAIL = 200


def problem_of(response: httpx.Response, address: str) -> OperationError | Problem:
    """The error of the catalogue that an answer carries, or a Problem."""
    told = _told(response)
    if told is None:
        return _no_problem_details(response, address)
    code, detail = str(told.get("code", "")), _texts(told.get("fields"))
    message = str(told.get("detail", "no detail was given"))
    if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR and told.get("request_id"):
        detail["request"] = str(told["request_id"])
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Problem(
            code, message, "log in again: federation login URL; federation token create makes a token", detail
        )
    kind = CATALOGUE.get(code)
    if kind is not None and kind.next_move == told.get("next_move"):
        error = kind(message)
        error.detail = detail
        return error
    next_move = str(told.get("next_move", "read the manager's log"))
    return Problem(code, message, next_move, detail)


def names_no_path(response: httpx.Response) -> bool:
    """Whether an answer may say that the manager has no such path or method, and not that a thing is not there."""
    if response.status_code == httpx.codes.METHOD_NOT_ALLOWED:
        return True
    told = _told(response)
    return response.status_code == httpx.codes.NOT_FOUND and (told is None or not told.get("fields"))


def is_passing(response: httpx.Response) -> bool:
    """Whether the same request may be answered soon: too much at once, or something in front found no manager."""
    if response.status_code in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}:
        return True
    return response.status_code in {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT} and _told(response) is None


def unreached(error: httpx.HTTPError, address: str) -> Problem:
    """Why no answer came."""
    certificate = _certificate_error(error)
    if certificate is not None:
        message = f"the certificate of {address} is not trusted: {certificate}"
        move = "check the URL's host, or name the authority: federation login URL --ca-file FILE"
        return Problem("untrusted_certificate", message, move, exit_code=EXIT_UNREACHED)
    if isinstance(error, httpx.TimeoutException):
        message = f"{address} did not answer in time"
    else:
        message = f"{address} cannot be reached: {str(error) or type(error).__name__}"
    move = "check that the manager runs and serves the API there (federation manager --api); federation context list"
    return Problem("unreachable", message, move, exit_code=EXIT_UNREACHED)


def is_certificate_error(error: BaseException) -> bool:
    """Whether trying again cannot help."""
    return _certificate_error(error) is not None


def _certificate_error(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _told(response: httpx.Response) -> dict[str, Any] | None:
    if response.headers.get("content-type", "").partition(";")[0].strip() != _PROBLEM:
        return None
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _texts(fields: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}


def _no_problem_details(response: httpx.Response, address: str) -> Problem:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if is_passing(response):
        message, move = f"{address} answers {status}: no manager is behind it now", "try again when a manager runs"
        return Problem("unreachable", message, move, exit_code=EXIT_UNREACHED)
    start = response.text[:_SHOWN_DETAIL].splitlines()
    message = f"{address} answers {status}, which no manager does{f': {start[0]}' if start else ''}"
    return Problem("not_a_manager", message, "check the URL: federation context list; federation login URL")
