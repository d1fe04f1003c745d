"""What may be shown of a request: user data holds passwords, and so may URLs; the worker alone gets them."""

from __future__ import annotations

import re
from typing import Any

_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_HIDDEN = "***@"


def without_secrets(value: Any, field: str = "") -> Any:
    """The same builtin types without user data and without what stands before the host of a URL."""
    if isinstance(value, dict):
        return {name: without_secrets(child, name) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(child, field) for child in value]
    if not isinstance(value, str) or field == "text":
        return value  # what a guest printed is its own business
    if field == "user_data":
        return f"({len(value)} characters)" if value else value
    return _IN_URL.sub(_HIDDEN, value) if "://" in value else value
