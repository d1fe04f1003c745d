"""The page on ordering says what the code does: its tables are those of the answer table and of the mutations."""

from __future__ import annotations

from pathlib import Path

import pytest
from protocol.model.catalogue import MUTATIONS
from protocol.model.faults import FAULTS

from federation.protocol.answer_table import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "ordering.md"


def answer_rows() -> list[str]:
    rows = [f"| {row.number} | {row.condition} | `{row.verdict}` | {row.worker} |" for row in TABLE]
    return ["| # | condition | answer | the worker |", "|---|---|---|---|", *rows]


def mutation_rows() -> list[str]:
    rows = [f"| {m.name} | {m.claim or 'nothing'} | {m.remark} |" for m in MUTATIONS]
    return ["| without | falls | because |", "|---|---|---|", *rows]


@pytest.mark.parametrize(("name", "rows"), [("answer table", answer_rows()), ("mutations", mutation_rows())])
def test_the_pages_table_is_the_codes(name: str, rows: list[str]) -> None:
    _, _, rest = PAGE.read_text().partition(f"<!-- {name}: checked by")
    table, end, _ = rest.partition(f"<!-- end of {name} -->")
    assert end, f"the page has no table of {name}"
    told = [line for line in table.splitlines()[1:] if line]
    assert told == rows, "put this into the page:\n" + "\n".join(rows)


def test_the_page_counts_the_kinds_of_faults_that_are_modelled() -> None:
    assert f"every pair out of {len(FAULTS)} kinds" in PAGE.read_text()
