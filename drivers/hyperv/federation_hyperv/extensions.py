"""The options under ``extensions["hyperv"]``: what they may say.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from federation.contract.errors import InvalidRequest

DRIVER = "hyperv"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this driver takes besides the contract."""

    secure_boot: bool = False
    """Start only what is signed; with UEFI firmware.  Hyper-V's default template knows Windows' certificates only."""
    dynamic_memory_minimum_mib: Annotated[int, Meta(ge=32, le=1 << 24, multiple_of=2)] | None = None
    """Let Hyper-V take memory back from the guest down to so many MiB; None keeps memory static."""


def options(extensions: Mapping[str, Mapping[str, str | int | bool]]) -> Options:
    """This driver's options; InvalidRequest names the first one that is not known or not right."""
    given = extensions.get(DRIVER, {})
    try:
        return msgspec.convert(dict(given), Options, strict=True)
    except msgspec.ValidationError as error:
        known = ", ".join(Options.__struct_fields__)
        raise InvalidRequest(
            f'extensions["hyperv"]: {error}; known options are: {known}', field="extensions.hyperv"
        ) from error
