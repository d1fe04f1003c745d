"""Nobody else's words can look like a line of the log."""

from __future__ import annotations

import logging
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from federation.cli.log_lines import LineFormatter

FORGED = "2026-01-01 00:00:00,000 ERROR federation.manager forged"


def line_of(text):
    return LineFormatter().format(logging.LogRecord("federation.x", logging.ERROR, __file__, 1, "%s", (text,), None))


@given(st.text() | st.lists(st.sampled_from(["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\v", FORGED])).map("".join))
def test_no_text_begins_a_line_of_the_log_or_speaks_to_the_terminal(text):
    first, *more = line_of(text).splitlines()
    assert " ERROR federation.x " in first
    assert all(line.startswith("    ") for line in more)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in line_of(text))


def test_a_long_running_command_writes_its_log_so():
    program = f"""
import logging
from federation.cli.main import _log
_log(1, long_running=True)
logging.getLogger("federation.manager.results").warning("unreadable result dropped: %s", "x\\n{FORGED}")
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stderr
    assert f"\n    {FORGED}" in said
    assert f"\n{FORGED}" not in said
