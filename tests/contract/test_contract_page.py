"""The pages, the release file and the code say the same."""

from pathlib import Path

import pytest

from federation.contract.evolution.frozen import ReleaseFiles, release_text
from federation.contract.operations import DECLARED
from federation.contract.page import PAGES, render
from federation.contract.release import CURRENT

ROOT = Path(__file__).parents[2]
HOW = "run: python -m federation.contract.page"


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_parts_of_a_page_are_what_the_declarations_say(page):
    text = (ROOT / page).read_text()
    assert text == render(text), HOW


def test_the_release_file_is_what_the_declarations_say():
    files = ReleaseFiles()
    # What a frozen release says is the business of `federation contract check`.
    if CURRENT not in files.frozen():
        assert files.path(CURRENT).read_text() == release_text(), HOW


def test_every_operation_has_a_section_of_its_own():
    page = (ROOT / "docs/contract.md").read_text()
    assert [o.name for o in DECLARED if f"### `{o.name}`\n" not in page] == []
