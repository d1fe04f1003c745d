"""Limits of values, compared: does the newer form take less than the older one, or more?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from federation.contract.evolution.places import Schema

_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_PRESENT = ("pattern", "uniqueItems", "format")
KEYWORDS = frozenset({*_UPPER, *_LOWER, *_PRESENT, "multipleOf"})
"""What this module judges."""


class Change(NamedTuple):
    """One limit that changed; both when the ranges only overlap."""

    narrower: bool
    wider: bool
    message: str


def changes(old: Schema, new: Schema) -> Iterator[Change]:
    """Every limit that differs.  Two different patterns are another rule's business."""
    for keyword in sorted(KEYWORDS):
        before, after = old.get(keyword), new.get(keyword)
        if before == after:
            continue
        narrower, wider = _judged(keyword, before, after)
        if narrower or wider:
            yield Change(narrower, wider, f"{keyword} was {_said(before)}, now {_said(after)}")


def _judged(keyword: str, before: Any, after: Any) -> tuple[bool, bool]:
    if before is None or after is None:
        return before is None, after is None
    if keyword in _UPPER:
        return after < before, after > before
    if keyword in _LOWER:
        return after > before, after < before
    if keyword == "multipleOf":
        return before % after != 0, after % before != 0
    if keyword == "pattern":
        return False, False
    return True, True


def _said(value: object) -> str:
    return "none" if value is None else str(value)
