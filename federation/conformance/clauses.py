"""The contract's clauses, cut from docs/contract.md, so that the page and what the cases cite cannot drift.

``python -m federation.conformance.clauses docs/contract.md`` writes ``clauses.json`` beside this file; a test compares.
A clause stands in the page as ``**[ABC-1]** text`` up to the next clause or empty line.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("clauses.json")
_CLAUSE = re.compile(r"\*\*\[([A-Z]{3}-\d+)\]\*\* (.+?)(?=\n\s*\n|\n\s*(?:[-*] )?\*\*\[|\n<!--|\n#|\Z)", re.DOTALL)
_MUST = re.compile(r"\bMUST\b|\bSHALL\b|\bREQUIRED\b")


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered sentence of the contract; ``must`` when it binds without exception (RFC 2119 MUST, MUST NOT)."""

    id: str
    must: bool
    text: str


def read_page(page: str) -> tuple[Clause, ...]:
    """Every clause of the page in its order; ValueError when two bear one id."""
    found = []
    for identifier, text in _CLAUSE.findall(page):
        flat = " ".join(text.split())
        found.append(Clause(id=identifier, must=bool(_MUST.search(flat)), text=flat))
    ids = [clause.id for clause in found]
    doubled = sorted({one for one in ids if ids.count(one) > 1})
    if doubled:
        raise ValueError(f"clauses with one id: {', '.join(doubled)}")
    return tuple(found)


def as_file(clauses: tuple[Clause, ...]) -> str:
    """What the file holds."""
    return json.dumps(msgspec.to_builtins(clauses), indent=1, ensure_ascii=False) + "\n"


@cache
def known_clauses() -> dict[str, Clause]:
    """The clauses of the shipped file, by id."""
    clauses = msgspec.json.decode(FILE.read_bytes(), type=list[Clause])
    return {clause.id: clause for clause in clauses}


if __name__ == "__main__":
    FILE.write_text(as_file(read_page(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
