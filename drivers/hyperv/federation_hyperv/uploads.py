"""Sending an image to where a request says, within what the operator allows.

``file:`` writes beside the target under a name with the operation's id, and links it to the target when it is complete: a
file that is there already is left alone, and a repeat knows its own by the second name.  ``http`` and ``https`` are one PUT,
sent again from the start when it broke off or the server says that it may work later.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from federation.contract.errors import AlreadyExists, ImageUnavailable, InvalidRequest
from federation_hyperv.attempt import Attempt
from federation_hyperv.images import CHUNK_BYTES, PASSING_STATUS, local_path, printable
from federation_hyperv.settings import ImageRules

_TRIES = 3
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Sent:
    """What has arrived: bytes, and ``algorithm:hexdigest``."""

    length: int
    checksum: str


class _Passing(Exception):
    """Sending failed in a way that may pass."""


class Upload:
    """One file on its way to one URL that ``check_allowed`` has let through."""

    def __init__(self, url: str, rules: ImageRules, attempt: Attempt) -> None:
        self._url = url
        self._rules = rules
        self._attempt = attempt
        self._name = printable(url)

    def send(self, content: Callable[[], Iterator[bytes]], length: int) -> Sent:
        """Send it; ``content`` starts over at each call.

        Raises InvalidRequest when it is larger than allowed, AlreadyExists when a file is there, ImageUnavailable when it
        cannot be sent.
        """
        if length > self._rules.max_bytes:
            raise InvalidRequest(
                f"{self._name}: the image has {length} bytes, at most {self._rules.max_bytes} may be sent",
                field="url",
                found=length,
                limit=self._rules.max_bytes,
            )
        if urlsplit(self._url).scheme == "file":
            return self._write(content)
        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.3, max=3.0),
            sleep=self._attempt.sleep,
            reraise=True,
        )
        try:
            return retrying(lambda: self._put(content, length))
        except _Passing as error:
            raise ImageUnavailable(f"{self._name}: {error}", url=self._name) from error

    def forget(self) -> None:
        """Remove the second name of a file that has arrived."""
        self._remove(self._part())

    def undo(self) -> None:
        """Remove what was written for this operation, also when it was complete."""
        part = self._part()
        if part is None:
            return
        target = local_path(self._url, self._rules)
        if part.exists() and target.exists() and part.samefile(target):
            self._remove(target)
        self._remove(part)

    def _write(self, content: Callable[[], Iterator[bytes]]) -> Sent:
        target, part = local_path(self._url, self._rules), self._part()
        if part is None:
            raise AssertionError("unreachable: a file URL has a part")
        if target.exists():
            if not (part.exists() and part.samefile(target)):
                raise AlreadyExists(f"{self._name} is there already", url=self._name)
            # An earlier attempt has come so far.
            self._remove(target)
        try:
            with part.open("wb") as file:
                sent = self._pump(content(), file.write)
                file.flush()
                os.fsync(file.fileno())
            self._attempt.guard()
            target.hardlink_to(part)
        except FileExistsError as error:
            raise AlreadyExists(f"{self._name} is there already", url=self._name) from error
        except OSError as error:
            raise ImageUnavailable(f"{self._name}: {error.strerror}", url=self._name) from error
        return sent

    def _pump(self, content: Iterator[bytes], put: Callable[[bytes], object]) -> Sent:
        digest, length = hashlib.sha256(), 0
        for chunk in _chunks(content):
            self._attempt.guard()
            put(chunk)
            digest.update(chunk)
            length += len(chunk)
            self._attempt.progress(None, f"sending the image, {length >> 20} MiB")
        return Sent(length, f"sha256:{digest.hexdigest()}")

    def _put(self, content: Callable[[], Iterator[bytes]], length: int) -> Sent:
        parts = urlsplit(self._url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        link = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            link.putrequest("PUT", path or "/")
            link.putheader("Content-Length", str(length))
            link.putheader("Content-Type", "application/octet-stream")
            link.endheaders()
            sent = self._pump(content(), link.send)
            response = link.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(f"sending broke off: {error}") from error
        finally:
            link.close()
        if response.status in PASSING_STATUS:
            raise _Passing(f"HTTP {response.status} {response.reason}")
        if response.status not in _SUCCESS:
            raise ImageUnavailable(f"{self._name}: HTTP {response.status} {response.reason}", url=self._name)
        if sent.length != length:
            raise ImageUnavailable(f"{self._name}: {sent.length} of {length} bytes could be read", url=self._name)
        return sent

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._rules.timeout_seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._rules.timeout_seconds)

    def _part(self) -> Path | None:
        if urlsplit(self._url).scheme != "file":
            return None
        target = local_path(self._url, self._rules)
        return target.with_name(f".{self._attempt.operation}.part")

    def _remove(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ImageUnavailable(f"{self._name}: {error.strerror}", url=self._name) from error


def _chunks(content: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: leave is asked for before each."""
    held, size = [], 0
    for piece in content:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
