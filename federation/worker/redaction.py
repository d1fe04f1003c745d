"""What a worker logs and reports of foreign words: bounded, printable, and without secrets.

Rules:

1. Values of a driver's settings whose field is named like a secret never leave the process.
2. Nor do passwords and queries (signatures stand there) within URLs, nor what stands behind ``password=``, ``token:`` and the like.
3. A lone surrogate or a control character in a foreign text never breaks a message on the wire or a line of the log.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

import msgspec

HIDDEN = "***"
LONGEST_TEXT = 2000
LONGEST_TRACEBACK = 8000

_SECRET_NAME = re.compile(r"pass(word|wd|phrase)?$|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/?#]+@", re.IGNORECASE)
_URL_QUERY = re.compile(r"(?P<place>[a-z]://[^\s?#'\"]*\?)[^\s#'\"]+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"""(?P<name>pass(?:word|wd|phrase)|secret|token|api_?key|private_?key|authorization)
        (?P<sign>["']?\s*[=:]\s*)(?:bearer\s+|basic\s+)?("[^"]*"|'[^']*'|[^\s,;)}]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SHORTEST_SECRET = 4


def secrets_of(settings: msgspec.Struct) -> frozenset[str]:
    """The texts in these settings (nested ones too) that stand in a field named like a secret."""
    return frozenset(_secrets(msgspec.to_builtins(settings), named=False))


def _secrets(value: object, *, named: bool) -> Iterable[str]:
    if isinstance(value, str) and named and len(value) >= _SHORTEST_SECRET:
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _secrets(part, named=named or bool(_SECRET_NAME.search(str(name))))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _secrets(part, named=named)


class Redactor:
    """Cleans foreign texts; ``secrets`` are texts that must never show."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def text(self, text: str, longest: int = LONGEST_TEXT) -> str:
        """The text without secrets, control characters and lone surrogates, cut to ``longest`` characters."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _URL_PASSWORD.sub(rf"\g<scheme>:{HIDDEN}@", text)
        text = _URL_QUERY.sub(rf"\g<place>{HIDDEN}", text)
        text = _ASSIGNED.sub(rf"\g<name>\g<sign>{HIDDEN}", text)
        text = _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8")
        return text if len(text) <= longest else text[: longest - 1] + "…"

    def traceback(self, error: BaseException) -> str:
        """The frames and the chain of an exception, for the log; no local variables."""
        try:
            lines = traceback.TracebackException.from_exception(error, limit=30, capture_locals=False).format()
            return self.text("".join(lines), LONGEST_TRACEBACK)
        except Exception as failure:  # noqa: BLE001 — a foreign exception's own code may raise anything while it is shown
            return f"{class_name(error)} (its traceback cannot be shown: {class_name(failure)})"


def class_name(value: object) -> str:
    """The name of a value's class: all that is safe to say of a foreign object."""
    # A metaclass may define __name__ itself; the descriptor of ``type`` cannot be overridden.
    name = type.__dict__["__name__"].__get__(type(value))
    return _CONTROL.sub(" ", str(name)).encode("utf-8", "replace").decode("utf-8")[:100]
