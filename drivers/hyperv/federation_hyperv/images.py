"""Reading images, kernels and RAM disks from where a request says they are, within what the operator allows.

Rules:

1. Scheme, host and directory must be in the operator's list, after every redirect and after symbolic links are resolved.
2. No more than the allowed number of bytes is read, whatever the server announces.
3. The checksum is computed over the very bytes that are handed on; the caller asks for the verdict at the end.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from federation.contract.errors import ImageRejected, ImageUnavailable, InvalidRequest
from federation.contract.instances import ImageFormat
from federation_hyperv.settings import ImageRules

CHUNK_BYTES = 4 << 20
_OPEN_TRIES = 3
_WEB = frozenset({"http", "https"})
# Answers that may be another after a moment (RFC 9110).
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that a request names: where it is, ``algorithm:hexdigest``, and its format when it is a disk image."""

    url: str
    checksum: str
    format: ImageFormat | None = None


class _Passing(Exception):
    """Opening failed in a way that may pass."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def check_allowed(url: str, rules: ImageRules) -> None:
    """Raise InvalidRequest, naming what is allowed, unless the operator's list has this URL's scheme and place."""
    parts = urlsplit(url)
    if parts.scheme not in rules.schemes or parts.scheme not in _WEB | {"file"}:
        allowed = ", ".join(sorted(rules.schemes)) or "none"
        raise InvalidRequest(f"{printable(url)}: scheme {parts.scheme} is not allowed; allowed: {allowed}", field="url")
    if parts.scheme == "file":
        local_path(url, rules)
    elif parts.username is not None or parts.password is not None:
        raise InvalidRequest(f"{printable(url)}: user information in a URL is not allowed", field="url")
    elif not any(_host_matches(parts.hostname or "", pattern) for pattern in rules.hosts):
        allowed = ", ".join(rules.hosts) or "none"
        raise InvalidRequest(f"{printable(url)}: host {parts.hostname} is not allowed; allowed: {allowed}", field="url")


def printable(url: str) -> str:
    """The URL without what may be a secret in it: user information and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Reading:
    """A file being read: its chunks, and afterwards whether they were the right ones.

    ``sleep`` waits between two tries to open it.
    """

    def __init__(self, expected: Expected, rules: ImageRules, sleep: Callable[[float], None] = time.sleep) -> None:
        check_allowed(expected.url, rules)
        self.expected = expected
        self._rules = rules
        self._sleep = sleep
        self._digest = hashlib.new(expected.checksum.partition(":")[0])
        self.length = 0
        """Bytes read so far."""
        self.announced: int | None = None
        """Bytes that the server announced, None when it did not."""

    def chunks(self) -> Iterator[bytes]:
        """The content, in pieces of at most CHUNK_BYTES.

        Raises ImageUnavailable when it cannot be read, ImageRejected when it is too large or its checksum is wrong; the
        latter after the last piece.
        """
        with closing(self._open()) as stream:
            if self.announced is not None:
                self._check_length(self.announced)
            while chunk := self._read(stream):
                self.length += len(chunk)
                self._check_length(self.length)
                self._digest.update(chunk)
                yield chunk
        self._check_complete()

    def _check_complete(self) -> None:
        if self.announced is not None and self.length < self.announced:
            raise ImageUnavailable(
                f"{self._name}: the connection ended after {self.length} of {self.announced} bytes", url=self._name
            )
        algorithm, _, wanted = self.expected.checksum.partition(":")
        found = self._digest.hexdigest()
        if found != wanted:
            raise ImageRejected(
                f"{self._name}: {algorithm} is {found}, the request says {wanted}",
                field="checksum",
                found=found,
                expected=wanted,
            )

    @property
    def _name(self) -> str:
        return printable(self.expected.url)

    def _check_length(self, length: int) -> None:
        if length > self._rules.max_bytes:
            raise ImageRejected(
                f"{self._name}: {length} bytes or more, at most {self._rules.max_bytes} are allowed",
                field="size",
                found=length,
                limit=self._rules.max_bytes,
            )

    def _open(self) -> IO[bytes] | http.client.HTTPResponse:
        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(_OPEN_TRIES),
            wait=wait_random_exponential(multiplier=0.3, max=3.0),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._open_once)
        except _Passing as passing:
            raise ImageUnavailable(f"{self._name}: {passing.error}", url=self._name) from passing.error

    def _open_once(self) -> IO[bytes] | http.client.HTTPResponse:
        if urlsplit(self.expected.url).scheme == "file":
            return self._open_file()
        return self._open_web()

    def _open_file(self) -> IO[bytes]:
        path = local_path(self.expected.url, self._rules)
        try:
            if not path.is_file():
                raise ImageUnavailable(f"{self._name}: no such file on the worker's machine", url=self._name)
            self.announced = path.stat().st_size
            return path.open("rb")
        except OSError as error:
            raise ImageUnavailable(f"{self._name}: {error.strerror}", url=self._name) from error

    def _open_web(self) -> http.client.HTTPResponse:
        opener = urllib.request.build_opener(_HeldRedirects(self._rules))
        request = urllib.request.Request(self.expected.url, headers={"Accept-Encoding": "identity"})  # noqa: S310
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=self._rules.timeout_seconds)
        except urllib.error.HTTPError as error:
            if error.code in PASSING_STATUS:
                raise _Passing(error) from error
            raise ImageUnavailable(f"{self._name}: HTTP {error.code} {error.reason}", url=self._name) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Passing(error) from error
        length = response.headers.get("Content-Length", "")
        self.announced = int(length) if length.isascii() and length.isdigit() else None
        return response

    def _read(self, stream: IO[bytes] | http.client.HTTPResponse) -> bytes:
        try:
            return stream.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ImageUnavailable(
                f"{self._name}: reading broke off after {self.length} bytes: {error}", url=self._name
            ) from error


class _HeldRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a request might have pointed itself."""

    def __init__(self, rules: ImageRules) -> None:
        self._rules = rules

    def redirect_request(  # noqa: PLR0913 - the standard library's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Check the new place; raise InvalidRequest when it is not allowed."""
        if urlsplit(newurl).scheme not in _WEB:
            raise InvalidRequest(f"{printable(req.full_url)}: redirected to {printable(newurl)}", field="url")
        check_allowed(newurl, self._rules)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _host_matches(host: str, pattern: str) -> bool:
    if pattern == "*":
        return bool(host)
    if pattern.startswith("*."):
        return host.endswith(pattern[1:].lower())
    return host == pattern.lower()


def local_path(url: str, rules: ImageRules) -> Path:
    """The path behind a ``file:`` URL; InvalidRequest unless it lies in a directory that is allowed."""
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise InvalidRequest(f"{printable(url)}: a file URL may not name a host", field="url")
    raw = unquote(parts.path)
    if "\0" in raw:
        raise InvalidRequest(f"{printable(url)}: the path holds a null character", field="url")
    path = Path(raw).resolve()
    if not any(path.is_relative_to(Path(allowed).resolve()) for allowed in rules.directories):
        allowed = ", ".join(rules.directories) or "none"
        raise InvalidRequest(f"{printable(url)}: directory is not allowed; allowed: {allowed}", field="url")
    return path
