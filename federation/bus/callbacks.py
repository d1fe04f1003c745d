"""Calling users back from a link's own thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

LOG = logging.getLogger(__name__)


def call_back(callback: Callable[..., None], *arguments: object) -> None:
    """Call a user's callback; what it raises, against the rule, is reported and stops nobody else."""
    try:
        callback(*arguments)
    except Exception:
        LOG.exception("a callback of the bus raised")
