"""What we write into a machine's ``Notes``: whose it is, and the markers that make operations convergent.  Pure.

``Notes`` of Msvm_VirtualSystemSettingData is free text that people see in Hyper-V Manager.  Rules:

1. Ours is one line that begins with PREFIX; the rest of it is ASCII JSON.  Every other line is somebody else's and is
   kept as it is.
2. A machine is ours when the line names our cluster *and* the machine's own id: the ``BIOSGUID`` that create gives it, or,
   for adopted machines, the id that Hyper-V gave it.  A copy that somebody imports under a new id is foreign.
3. Whether a checkpoint copies the machine's notes when it is made, and whether applying it brings them back, is not
   relied on: both have to come out right (see ``snapshots``).
"""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Sequence

import msgspec

logger = logging.getLogger(__name__)

PREFIX = "driver-federation:1 "


class Stage(enum.StrEnum):
    """How far ``create`` has come."""

    BUILDING = "building"
    """Defined; disks may be missing; it cannot have run."""
    BUILT = "built"
    """Everything is there; it may have been started."""
    COMPLETE = "complete"


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What we write on a machine of ours.

    ``operation`` is the id of the create or adopt; ``boot`` is the last reboot that was begun, ``booted`` the
    last that has stopped the machine; ``snapshot`` is set while a snapshot is taken and
    on the snapshot itself: its id; ``known`` are the checkpoints that were there before; ``reverting`` is the last
    revert_snapshot that was begun, ``reverted`` the last that was carried out; ``captured`` is the
    last capture to a URL that has arrived; ``made`` are volumes that attach_volume made, with its operation; ``disks`` are
    sizes in bytes by the disk's name; ``metadata`` is the caller's; ``name`` is that of an adopted instance.
    """

    cluster: str
    instance: str
    operation: str
    stage: Stage
    name: str = ""
    boot: str = ""
    booted: str = ""
    snapshot: str = ""
    memory: bool = False
    known: tuple[str, ...] = ()
    reverting: str = ""
    reverted: str = ""
    captured: str = ""
    made: dict[str, str] = {}
    disks: dict[str, int] = {}
    metadata: dict[str, str] = {}


def lines_of(notes: Sequence[str] | str | None) -> list[str]:
    """The lines of the property: an array whose elements may hold several lines each, or one text."""
    texts = [notes] if isinstance(notes, str) else list(notes or ())
    return [line for text in texts for line in text.replace("\r\n", "\n").split("\n")] if texts else []


def read(notes: Sequence[str] | str | None) -> Note | None:
    """Our line; None when there is none, or none that we can read (the machine is foreign then)."""
    for line in lines_of(notes):
        if line.startswith(PREFIX):
            try:
                return msgspec.json.decode(line.removeprefix(PREFIX), type=Note)
            except msgspec.MsgspecError:
                logger.warning("a machine has a note of ours that cannot be read")
                return None
    return None


def write(notes: Sequence[str] | str | None, note: Note) -> str:
    """The property's text with our line replaced, or added in the end; the other lines are kept."""
    encoded = json.dumps(msgspec.to_builtins(note), separators=(",", ":"), sort_keys=True)
    ours = PREFIX + encoded
    lines = lines_of(notes)
    for number, line in enumerate(lines):
        if line.startswith(PREFIX):
            return "\n".join([*lines[:number], ours, *lines[number + 1 :]])
    kept = lines if any(lines) else []
    return "\n".join([*kept, ours])


def replaced(note: Note, **changes: object) -> Note:
    """The note with some fields changed."""
    return msgspec.structs.replace(note, **changes)
