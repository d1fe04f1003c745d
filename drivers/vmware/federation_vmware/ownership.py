"""What we write on a machine: whose it is, and the markers that make operations convergent.  Pure.

It lives in the machine's ``extraConfig`` (key and value, kept in its .vmx file), so it goes where the machine goes and
outlives every worker.  Rules:

1. A machine is ours when the note names our cluster *and* the machine's own ``instanceUuid``: a clone that somebody makes
   of one of ours carries the note of its origin and is foreign.
2. The last value of a key counts, and an empty value means that there is none: vCenter removes a key that is set to
   nothing, its simulator appends.
3. Values are ASCII JSON in pieces of at most PIECE characters.
"""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

logger = logging.getLogger(__name__)

Note = TypeVar("Note", bound=msgspec.Struct)

INSTANCE = "federation.instance"
TEMPLATE = "federation.template"
PIECE = 4096
_MAX_PIECES = 256


class Stage(enum.StrEnum):
    """How far ``create`` has come."""

    IMPORTING = "importing"
    """The machine is made together with the disk that is sent to it; nobody can go on with it."""
    BUILDING = "building"
    """The machine is registered; it cannot have run."""
    BUILT = "built"
    """Everything is there; it may have been started."""
    COMPLETE = "complete"


class Volume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume that the machine uses and that outlives it: its name, datastore, and path on it."""

    name: str
    pool: str
    path: str
    operation: str = ""


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """What we write on a machine of ours.

    ``operation`` is the id of the create or adopt; ``boot`` is the last reboot and ``booted`` when the machine had been
    started before it; ``reverting`` is the last revert_snapshot that was begun; ``name`` is that of an adopted instance
    when vSphere calls it otherwise; ``upload`` is a file that create may have left unfinished.
    """

    cluster: str
    instance: str
    operation: str
    stage: Stage
    name: str = ""
    boot: str = ""
    booted: str = ""
    reverting: str = ""
    upload: str = ""
    volumes: tuple[Volume, ...] = ()
    metadata: dict[str, str] = {}


class TemplateNote(msgspec.Struct, frozen=True, kw_only=True):
    """What we write on a template that ``capture_image`` made."""

    cluster: str
    operation: str
    name: str


def options(ownership: Ownership) -> dict[str, str]:
    """The note as keys and values; what an older, longer note had beyond it is emptied by ``cleared``."""
    return _pieces(INSTANCE, msgspec.json.encode(ownership))


def template_options(note: TemplateNote) -> dict[str, str]:
    """The note of a template as keys and values."""
    return _pieces(TEMPLATE, msgspec.json.encode(note))


def cleared(present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """``wanted``, and every other key of ours that is present, emptied."""
    ours = {key: "" for key, value in present.items() if value and _is_ours(key)}
    return ours | dict(wanted)


def read(present: Mapping[str, str]) -> Ownership | None:
    """The note of a machine; None when there is none, or none that we can read (the machine is foreign then)."""
    return _read(INSTANCE, present, Ownership)


def read_template(present: Mapping[str, str]) -> TemplateNote | None:
    """The note of a template."""
    return _read(TEMPLATE, present, TemplateNote)


def last_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Rule 2."""
    return {key: value for key, value in dict(pairs).items() if value}


def _is_ours(key: str) -> bool:
    return key.startswith((f"{INSTANCE}.", f"{TEMPLATE}.", "guestinfo.userdata", "guestinfo.metadata"))


def _pieces(key: str, encoded: bytes) -> dict[str, str]:
    text = json.dumps(json.loads(encoded), separators=(",", ":"), sort_keys=True)
    parts = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return {f"{key}.{number}": part for number, part in enumerate(parts)} | {f"{key}.count": str(len(parts))}


def _read(key: str, present: Mapping[str, str], kind: type[Note]) -> Note | None:
    count = present.get(f"{key}.count", "")
    if not count:
        return None
    try:
        text = "".join(present[f"{key}.{part}"] for part in range(min(int(count), _MAX_PIECES)))
        return msgspec.json.decode(text, type=kind)
    except (KeyError, ValueError, msgspec.MsgspecError):
        logger.warning("a machine has a note of ours that cannot be read (%s)", key)
        return None
