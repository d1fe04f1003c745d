"""RabbitMQ's management API, as far as users are made and removed with it, and queues are looked at.

One request at a time, each with a timeout; a request that did not get through is tried again a few times, since every
step may be carried out twice (https://www.rabbitmq.com/docs/http-api-reference).
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import tenacity

from federation.bus.errors import AddressError, BrokerRefused, BusUnavailable
from federation.bus.provisioning import Step

_ATTEMPTS = 4
_LONGEST_PAUSE = 3.0
_MOST_BYTES = 1 << 20


class _Unreachable(Exception):
    """This attempt did not get an answer that means anything."""


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """``base`` is ``http(s)://host:port/prefix`` without credentials; ``ca_file`` a PEM file to trust instead."""

    base: str
    user: str
    password: str = field(repr=False)
    timeout: float = 10.0
    ca_file: str | None = None
    attempts: int = _ATTEMPTS

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Do the steps in order; what is to be removed may be gone.  Raises BrokerRefused, BusUnavailable."""
        for step in steps:
            self.request("DELETE" if step.body is None else "PUT", step.path, step.body)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request, and the JSON it was answered with, if any."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Unreachable),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, body)
        except _Unreachable as error:
            raise BusUnavailable("the broker's management API does not answer", {self.base: str(error)}) from error

    def _once(self, method: str, path: str, body: Any) -> Any:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310  # the scheme was checked when the address was read
            f"{self.base}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout, context=self._tls()) as response:  # noqa: S310
                text = response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            if method == "DELETE" and error.code == HTTPStatus.NOT_FOUND:
                return None
            if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Unreachable(f"status {error.code}") from error
            raise BrokerRefused(error.code, f"{method} {path}: {_reason(error)}") from error
        except (OSError, ValueError) as error:
            raise _Unreachable(str(error)) from error
        return json.loads(text) if text else None

    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca_file) if self.base.startswith("https:") else None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read(_MOST_BYTES))
        return str(told.get("reason") or told.get("error") or error.reason)
    except (ValueError, OSError, AttributeError):
        return str(error.reason)


def read_management_url(url: str, ca_file: str | None = None) -> ManagementApi:
    """Read ``http(s)://user:password@host:port/prefix``; raises AddressError, which never shows the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        message = "the management URL cannot be read: its port is no number"
        raise AddressError(message) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is None:
        message = "a management URL has the form http(s)://user:password@host:port"
        raise AddressError(message)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port is None else f"{host}:{port}"
    base = f"{parts.scheme}://{place}{parts.path.rstrip('/')}"
    return ManagementApi(base, unquote(parts.username), unquote(parts.password or ""), ca_file=ca_file)
