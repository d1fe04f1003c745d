"""The page, the release file and the code say the same."""

from pathlib import Path

from federation.contract.operations import DECLARED
from federation.contract.page import release_file, release_text, render

PAGE = Path(__file__).parents[2] / "docs/contract.md"
HOW = "run: python -m federation.contract.page"


def test_the_contract_page_is_what_the_declarations_say():
    assert PAGE.read_text() == render(PAGE.read_text()), HOW


def test_the_release_file_is_what_the_declarations_say():
    assert release_file().read_text() == release_text(), HOW


def test_every_operation_has_a_section_of_its_own():
    page = PAGE.read_text()
    assert [o.name for o in DECLARED if f"### `{o.name}`\n" not in page] == []
