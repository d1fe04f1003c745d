"""The way to a manager over its REST interface.

Rules:

1. Only what does no harm when it arrives twice is sent twice: reads, and every POST, because each bears an idempotency key.
   A DELETE is sent again only where no connection came about.
2. Tries are bounded in number and time, and apart by a random pause that grows, or that the manager asks for.
3. A certificate is always verified; a redirect is never followed, because the token would go with it.
"""

from __future__ import annotations

import ipaddress
import random
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx_sse
import msgspec
import tenacity

from federation.cli.contexts_file import Context
from federation.cli.exits import EXIT_REFUSED, EXIT_UNREACHED
from federation.cli.problems import Problem
from federation.cli.rest_problems import (
    is_certificate_error,
    is_passing,
    names_no_path,
    problem_of,
    unreached,
)
from federation.cli.rest_requests import Request, events_of, request_of
from federation.contract.errors import Overloaded, Unavailable
from federation.protocol.records import OperationState

Record = dict[str, Any]

_TRIES = 4
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
_LONGEST_RETRY_AFTER = 5.0
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 45.0
"""The stream holds a comment every 15 seconds: three of them missing is a connection that is gone."""
PATIENCE_SECONDS = 60.0
"""Without a manager's answer before whoever follows an operation gives up."""


class _Passing(Exception):
    """An answer after which the same request may be sent again."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class RestWay:
    """Asks a manager over HTTP; ``timeout`` is seconds for one answer."""

    def __init__(self, context: Context, timeout: float, *, tries: int = _TRIES) -> None:
        self.address = context.url
        self._timeout = timeout
        self._tries = tries
        self._client = httpx.Client(
            base_url=context.url,
            headers={
                "Authorization": f"Bearer {context.token}",
                "User-Agent": f"federation/{version('driver-federation')}",
            },
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            verify=_trust(context),
            trust_env=not _is_loopback(context.url),
        )

    def ask(self, use_case: str, arguments: Record) -> Any:
        """Carry out a use case; raises OperationError, Problem."""
        request = request_of(use_case, arguments)
        response = self._send(request)
        if response.is_success:
            return None if not response.content else request.value(_decoded(response, self.address))
        if names_no_path(response):
            self._explain_missing(request)
        raise problem_of(response, self.address)

    def follow(self, operation: Record, say: Callable[[str], None]) -> Iterator[Record]:
        """The operation after every change, to its outcome; ``say`` is told when a manager is waited for.

        Raises OperationError or Problem, also when no manager has answered for PATIENCE_SECONDS.
        """
        seen, silent_since = "", None
        while True:
            try:
                for event in self._events(operation["id"], seen):
                    seen, silent_since = event.id or seen, None
                    record = msgspec.json.decode(event.data, type=Record)
                    yield record
                    if OperationState(record["state"]).settled:
                        return
                _rest(0.1, 0.4)  # the manager ends a stream after its time, or because it stops
            except (Problem, Unavailable, Overloaded) as error:
                if isinstance(error, Problem) and not _may_pass(error):
                    raise
                if silent_since is None:
                    silent_since = time.monotonic()
                    say(f"the manager does not answer ({error.code}); still waiting")
                if time.monotonic() - silent_since > PATIENCE_SECONDS:
                    raise
                _rest(0.5, 1.5)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _send(self, request: Request) -> httpx.Response:
        headers = {"Idempotency-Key": request.key or uuid.uuid4().hex} if request.method == "POST" else {}
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _worth_another_try(request, error)),
            wait=_pause,
            stop=tenacity.stop_after_attempt(self._tries) | tenacity.stop_after_delay(self._timeout),
            reraise=True,
        )
        try:
            return retrying(self._send_once, request, headers)
        except _Passing as passing:
            return passing.response
        except httpx.HTTPError as error:
            raise unreached(error, self.address) from error

    def _send_once(self, request: Request, headers: dict[str, str]) -> httpx.Response:
        response = self._client.request(
            request.method, request.target, params=request.parameters, json=request.body, headers=headers
        )
        if is_passing(response):
            raise _Passing(response)
        return response

    def _events(self, operation: str, seen: str) -> Iterator[httpx_sse.ServerSentEvent]:
        """One connection's events; raises OperationError, Problem."""
        request = events_of(operation)
        headers = {"Last-Event-ID": seen} if seen else {}
        timeout = httpx.Timeout(self._timeout, read=_SILENCE_SECONDS, connect=min(self._timeout, _CONNECT_SECONDS))
        try:
            with httpx_sse.connect_sse(self._client, "GET", request.target, headers=headers, timeout=timeout) as source:
                if not source.response.is_success:
                    source.response.read()
                    if names_no_path(source.response):
                        self._explain_missing(request)
                    raise problem_of(source.response, self.address)
                for event in source.iter_sse():
                    if event.event == "operation":
                        yield event
        except httpx_sse.SSEError as error:
            raise _not_a_manager(self.address, str(error)) from error
        except httpx.HTTPError as error:
            raise unreached(error, self.address) from error

    def _explain_missing(self, request: Request) -> None:
        """Raise Problem where the manager's own document does not have the path: it is of another version."""
        response = self._send(Request(method="GET", template="/openapi.json"))
        try:
            document = msgspec.json.decode(response.content, type=dict[str, Any])
            paths, theirs = document["paths"], document["info"]["version"]
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise _not_a_manager(self.address, f"{response.status_code} for /openapi.json") from error
        if request.method.lower() in paths.get(request.template, {}):
            return
        message = (
            f"the manager at {self.address} (version {theirs}) does not serve {request.method} {request.template}, "
            f"which this command (version {version('driver-federation')}) needs"
        )
        raise Problem("not_served", message, "upgrade the manager, or use a command line of its version")


def _trust(context: Context) -> ssl.SSLContext:
    """The authorities that are trusted: the context's, or else the system's."""
    try:
        return ssl.create_default_context(cafile=context.ca_file)
    except (OSError, ssl.SSLError) as error:
        message = f"the file of authorities {context.ca_file} cannot be used: {error}"
        move = f"bring the file back, or log in again: federation login {context.url} --ca-file FILE"
        raise Problem("untrusted_certificate", message, move, exit_code=EXIT_UNREACHED) from error


def _is_loopback(url: str) -> bool:
    """No proxy is between a process and its own machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decoded(response: httpx.Response, address: str) -> Any:
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_a_manager(address, f"no JSON ({error})") from error


def _not_a_manager(address: str, what: str) -> Problem:
    message = f"{address} answers what no manager does: {what}"
    return Problem("not_a_manager", message, "check the URL: federation context list", exit_code=EXIT_REFUSED)


def _rest(least: float, most: float) -> None:
    time.sleep(random.uniform(least, most))  # noqa: S311 (jitter)


def _worth_another_try(request: Request, error: BaseException) -> bool:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return not is_certificate_error(error)
    return request.may_be_repeated and isinstance(error, _Passing | httpx.TransportError)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    drawn = tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE)(state)
    if isinstance(error, _Passing):
        asked = error.response.headers.get("retry-after", "")
        if asked.isascii() and asked.isdigit():
            return min(float(asked), _LONGEST_RETRY_AFTER) + drawn
    return drawn


def _may_pass(problem: Problem) -> bool:
    return problem.exit_code == EXIT_UNREACHED and problem.code != "untrusted_certificate"
