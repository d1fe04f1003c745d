"""Sizes on the command line: 512MiB, 2GiB, 1073741824."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


class SizeBytes(click.ParamType[int]):
    """A size in bytes; units are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or say what was expected."""
        if isinstance(value, int):
            return value
        match = _PATTERN.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a size; expected bytes or a number with KiB, MiB, GiB or TiB", param, ctx)
        return round(float(match[1]) * _UNITS[match[2].upper()])


SIZE = SizeBytes()
