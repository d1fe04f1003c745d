"""What others say does not speak to the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from federation.cli.plain_text import plain, plain_line
from federation.cli.rendering import cell
from federation.cli.session import CatalogueFailure
from federation.contract.errors import HypervisorRefused

EVIL = "done\x1b[2J\x1b]0;title\x07\r\x9b31m"


def test_escape_sequences_are_spelled_out_in_tables_and_errors(capsys):
    assert cell(EVIL).plain == r"done\x1b[2J\x1b]0;title\x07\r\x9b31m"
    CatalogueFailure(HypervisorRefused(EVIL, field=EVIL)).show()
    assert not {"\x1b", "\x07", "\r", "\x9b"} & set(capsys.readouterr().err)


@given(st.text())
def test_no_text_keeps_a_control_character_but_breaks_and_tabs(text):
    kept = {character for character in plain(text) if unicodedata.category(character) == "Cc"}
    assert kept <= {"\n", "\t"}
    assert "\n" not in plain_line(text)
    if not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        assert plain(text) == text
