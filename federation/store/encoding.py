"""What is only carried, as JSON text; and the protocol's readings of clocks, as two columns."""

from __future__ import annotations

from typing import Any

import msgspec

from federation.contract.outcomes import Outcome
from federation.protocol.lease import Stamp

_encode = msgspec.json.Encoder().encode
_decode_dict = msgspec.json.Decoder(dict[str, Any]).decode
_decode_load = msgspec.json.Decoder(dict[str, float | None]).decode
_decode_outcome = msgspec.json.Decoder(Outcome).decode


def text_of(value: object) -> str:
    """JSON text of a struct or of builtin types."""
    return _encode(value).decode()


def dict_of(text: str) -> dict[str, Any]:
    """What ``text_of`` was given, as builtin types."""
    return _decode_dict(text)


def load_of(text: str) -> dict[str, float]:
    """A worker's load; what was no number when it was written is left out, for everybody reads all workers."""
    return {name: figure for name, figure in _decode_load(text).items() if figure is not None}


def outcome_of(text: str | None) -> Outcome | None:
    """An outcome, None when there is none yet."""
    return None if text is None else _decode_outcome(text)


def stamp_of(clock: str | None, seconds: float | None) -> Stamp | None:
    """A reading, None when there was none."""
    return None if clock is None or seconds is None else Stamp(clock, seconds)
