"""Making Struct types ready before threads share them.

msgspec builds what it needs to decode into a Struct when that is done for the first time.  Meanwhile it runs Python code,
and a second thread that decodes into the same type then reads the half-built table: the process dies of a segmentation
fault (seen with msgspec 0.22.0 in a worker whose first two operations came at once).  Once built, it is only read.

Whoever starts threads calls :func:`prepare_types` first, and where several parts are put together in one process, one
after the other.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator

import msgspec

_log = logging.getLogger(__name__)
_prepared: weakref.WeakSet[type[msgspec.Struct]] = weakref.WeakSet()


def prepare_types() -> int:
    """Let msgspec build the tables of all Struct types that are imported by now, of any package; returns how many.

    Takes some milliseconds the first time and next to nothing when nothing new was imported.  A foreign type whose
    annotations cannot be resolved is left alone: it could not be decoded into anyhow.  Not to be called by two threads at
    once.
    """
    made = 0
    for kind in set(_below(msgspec.Struct)) - set(_prepared):
        try:
            msgspec.json.Decoder(kind)
        except (TypeError, NameError, AttributeError) as error:
            _log.debug("type not prepared type=%s.%s problem=%s", kind.__module__, kind.__qualname__, error)
        _prepared.add(kind)
        made += 1
    return made


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for part in kind.__subclasses__():
        yield part
        yield from _below(part)
