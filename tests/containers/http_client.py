"""Two managers' REST APIs as somebody outside uses them: whichever answers; a change is sent again with its key until one does."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from parts.state import PartMissingError

SETTLED = frozenset({"succeeded", "failed", "refused", "unknown"})
TRY_AGAIN = frozenset({429, 502, 503, 504})


def get_json(url: str, headers: dict[str, str] | None = None, body: Any = None) -> Any:
    """The JSON behind a URL; a login in the URL is sent as HTTP Basic."""
    parts = urlsplit(url)
    asked = urllib.request.Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    for name, value in (headers or {}).items():
        asked.add_header(name, value)
    if parts.username is not None:
        login = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        asked.add_header("Authorization", f"Basic {login}")
    if body is not None:
        asked.data = json.dumps(body).encode()
        asked.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(asked, timeout=20) as response:
        return json.loads(response.read())


@dataclass
class Managers:
    """The REST API of several managers with one token."""

    ports: tuple[int, ...]
    token: str = field(repr=False)

    def ask(self, path: str, body: Any = None, seconds: float = 180) -> Any:
        """The answer of the first manager that gives one; PartMissingError with the last refusal after `seconds`."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Idempotency-Key"] = uuid.uuid4().hex
        ends = time.monotonic() + seconds
        while True:
            for port in self.ports:
                try:
                    return get_json(f"http://127.0.0.1:{port}{path}", headers, body)
                except urllib.error.HTTPError as error:
                    told = f"{path}: {error.code} {error.read().decode(errors='replace')[:600]}"
                    if error.code not in TRY_AGAIN:
                        raise PartMissingError(told) from error
                except (OSError, ValueError) as error:
                    told = f"{path}: {error}"
            if time.monotonic() > ends:
                raise PartMissingError(f"no manager answered within {seconds:g} s: {told}")
            time.sleep(0.25)

    def settled(self, operation: str, seconds: float = 180) -> dict[str, Any]:
        """The operation with its outcome; PartMissingError when it has none within `seconds`."""
        ends = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.ask(f"/v1/operations/{operation}", seconds=max(1.0, ends - time.monotonic()))
            if found["state"] in SETTLED:
                return found
            if time.monotonic() > ends:
                raise PartMissingError(f"{found['name']} {operation} is {found['state']} after {seconds:g} s")
            time.sleep(0.2)

    def do(self, path: str, body: Any, seconds: float = 180) -> dict[str, Any]:
        """Ask for a change and wait for its success; PartMissingError for any other outcome."""
        operation = self.settled(self.ask(path, body, seconds)["id"], seconds)
        if operation["state"] != "succeeded":
            raise PartMissingError(f"{operation['name']}: {operation['state']} {operation.get('outcome')}")
        return operation
