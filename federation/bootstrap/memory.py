"""Garbage collection in a process that has begun its work.

Objects die by their reference counts; collections look for cycles only, and hold up every thread while they look.  With what
was imported among them a full one takes a hundred milliseconds.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 20, 20)
"""As for ``gc.set_threshold``; Python's own are 700, 10 and 10."""


def settle_memory() -> None:
    """What is there now stays: no collection looks at it any more, and they come more seldom.  Once, when all has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
