"""Text of others on a terminal: what a guest, a hypervisor or a driver says may not move its cursor or change its colours."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def plain(text: str) -> str:
    """The same text with control characters spelled out, but line breaks and tabs."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def plain_line(text: str) -> str:
    """The same on one line."""
    return plain(text).replace("\n", "\\n")
