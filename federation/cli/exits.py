"""How a command ends, for scripts."""

from __future__ import annotations

EXIT_FAILED = 1
"""The operation had another outcome than success, or something that the command itself does failed."""
EXIT_USAGE = 2
"""The command line cannot be understood; nothing was asked of anybody."""
EXIT_REFUSED = 3
"""The manager refused, with a code and a next move; nothing was done."""
EXIT_UNREACHED = 69
"""Manager, store or broker could not be reached or did not answer (sysexits' EX_UNAVAILABLE)."""
EXIT_LEFT_RUNNING = 130
"""Ctrl-C: the operation that was waited for goes on."""
