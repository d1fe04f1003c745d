"""What may be shown of a request: user data holds passwords, and so may URLs; the worker alone gets them."""

from __future__ import annotations

import re
from typing import Any

from federation.contract.fields import is_secret

_LOGIN_IN_URL = re.compile(r"(?<=://)[^/?#\s]+@")
_QUERY_OF_URL = re.compile(r"(?<=[a-z]://)([^?#\s]*\?)[^#\s]+")
_HIDDEN = "***"
_PLAIN = frozenset({int, float, bool, type(None)})
"""Most values of a long list, and none of them a secret."""


def without_secrets(value: Any, field: str = "") -> Any:
    """The same builtin types without user data and without a URL's login and query.

    A URL that somebody has signed, so that whoever has it may read or write there, is signed in its query.
    """
    if isinstance(value, dict):
        return {name: child if type(child) in _PLAIN else without_secrets(child, name) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(child, field) for child in value]
    if not isinstance(value, str) or field == "text":
        return value  # what a guest printed is its own business
    if is_secret(field):
        return f"({len(value)} characters)" if value else value
    if "://" not in value:
        return value
    return _QUERY_OF_URL.sub(rf"\1{_HIDDEN}", _LOGIN_IN_URL.sub(f"{_HIDDEN}@", value))
