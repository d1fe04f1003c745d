"""Lines of the log: whatever stands in a message, only the program itself begins a new one.

What a guest, a hypervisor, a driver or a stranger on the bus says ends up in messages.  A line break in it is followed by a
margin and any other control character is spelled out, so that no such text can look like a line of its own, hide one, or
speak to a terminal.
"""

from __future__ import annotations

import logging

from federation.cli.plain_text import plain

FORM = "%(asctime)s %(levelname)s %(name)s %(message)s"
_MARGIN = "\n    "


class LineFormatter(logging.Formatter):
    """Everything of one record, its traceback, too, behind one beginning."""

    def __init__(self) -> None:
        super().__init__(FORM)

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return plain(super().format(record)).replace("\n", _MARGIN)
