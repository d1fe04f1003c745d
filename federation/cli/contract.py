"""``federation contract``: what the contract is, and how it may change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from federation.cli.examples import examples
from federation.cli.rendering import cell, show_list, show_record
from federation.cli.session import EXIT_FAILED, CatalogueFailure, Session, pass_session
from federation.contract.errors import InvalidRequest, NotFound
from federation.contract.evolution import checking
from federation.contract.evolution.comparison import compare
from federation.contract.evolution.frozen import SHIPPED, ReleaseFiles
from federation.contract.evolution.pairs import Snapshot
from federation.contract.evolution.rule_book import Finding
from federation.contract.page import type_words
from federation.contract.release import Release, snapshot

_TREE = "tree"


@click.group()
def contract() -> None:
    """Look at the driver contract, and check how it changes."""


@contract.command(epilog=examples("federation contract check"))
@click.option(
    "--releases",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=SHIPPED,
    help="Folder of the release files to compare with; those of this distribution if not given.",
)
@pass_session
def check(session: Session, /, releases: Path) -> None:
    """Compare the working tree with every frozen release of its major that it still serves.

    Ends with status 1 when manager and drivers could no longer be upgraded in any order.
    """
    found = checking.check(ReleaseFiles(releases))
    broken = checking.is_broken(found)
    if not session.is_table:
        by_release = {str(release): findings for release, findings in found.items()}
        session.emit({"broken": broken, "releases": msgspec.to_builtins(by_release)})
    elif not found:
        session.messages.print("no frozen release is served yet: nothing to compare with", markup=False)
    else:
        for release, findings in found.items():
            _print_findings(session, f"since release {release}", findings)
    if broken:
        raise click.exceptions.Exit(EXIT_FAILED)


@contract.command(epilog=examples("federation contract diff 1.0", "federation contract diff 1.0 1.1 -o json"))
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW", default=_TREE)
@pass_session
def diff(session: Session, /, old: str, new: str) -> None:
    """Show what changed between two releases: numbers such as 1.0, files, or `tree` for the working tree."""
    before, after = _read(old), _read(new)
    low, high = Release.parse(before["release"]), Release.parse(after["release"])
    findings = compare(before, after, ReleaseFiles().between(low, high))
    if not session.is_table:
        session.emit(msgspec.to_builtins(findings))
    else:
        _print_findings(session, f"from {old} to {new}", findings)


@contract.command(epilog=examples("federation contract show", "federation contract show 1.0 attach_volume"))
@click.argument("words", metavar="[RELEASE] [OPERATION]", nargs=-1)
@pass_session
def show(session: Session, /, words: tuple[str, ...]) -> None:
    """Show a release of the contract (the working tree's if none is given), or one of its operations."""
    most = 2
    if len(words) > most:
        raise click.UsageError("give a release, an operation, or both")
    of_tree = not words or (len(words) == 1 and not _is_release(words[0]))
    data = snapshot() if of_tree else _read(words[0])
    name = next(iter(words if of_tree else words[1:]), None)
    if name is not None:
        _show_operation(session, data, name)
    elif not session.is_table:
        session.emit(data)
    else:
        session.console.print(f"contract release {data['release']} ({_status(data)})")
        show_list(session, data["operations"], _COLUMNS, "none")


def _deprecation(facts: Mapping[str, Any]) -> str:
    terms = facts["deprecated"]
    if not terms:
        return ""
    name, revision = terms["replaced_by"]
    return f"since {terms['since']} for {name} revision {revision}; {terms['removal']} may drop it"


_COLUMNS = {
    "OPERATION": lambda o: o["name"],
    "REV": lambda o: o["revision"],
    "SINCE": lambda o: o["since"],
    "LANE": lambda o: o["lane"],
    "REQUEST": lambda o: o["request"],
    "RESULT": lambda o: o["result"],
    "CAPABILITY": lambda o: o["capability"],
    "CONVERGENCE": lambda o: o["convergence"],
    "DEPRECATED": _deprecation,
}
_FACTS = {
    "operation": lambda o: f"{o['name']} revision {o['revision']}",
    "summary": lambda o: o["summary"],
    "since": lambda o: o["since"],
    "deprecated": _deprecation,
    "lane": lambda o: o["lane"] + (f", ordered by {o['ordering']}" if o["ordering"] else ""),
    "convergence": lambda o: o["convergence"],
    "capability": lambda o: o["capability"] or "every driver",
    "deadline": lambda o: f"{o['default_deadline_seconds']:g} s",
    "errors": lambda o: ", ".join(o["errors"]),
}


def _show_operation(session: Session, data: Snapshot, name: str) -> None:
    revisions = [facts for facts in data["operations"] if facts["name"] == name]
    if not revisions:
        known = ", ".join(sorted({facts["name"] for facts in data["operations"]}))
        message = f"release {data['release']} has no operation {name!r}; it has: {known}"
        raise CatalogueFailure(NotFound(message, operation=name))
    if not session.is_table:
        types = data["types"]
        session.emit([{**o, "types": {o[side]: types[o[side]] for side in ("request", "result")}} for o in revisions])
        return
    for facts in revisions:
        show_record(session, facts, _FACTS)
        for side in ("request", "result"):
            session.console.print(f"\n{side} {facts[side]}")
            _print_fields(session, data["types"][facts[side]])


def _table() -> Any:
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _print_fields(session: Session, schema: Mapping[str, Any]) -> None:
    required = set(schema.get("required", ()))
    table = _table()
    for title in ("FIELD", "TYPE", "DEFAULT", ""):
        table.add_column(title, overflow="fold")
    for name, described in schema["properties"].items():
        default = "required" if name in required else json.dumps(described.get("default"))
        words = type_words(described).replace("`", "")
        table.add_row(*map(cell, (name, words, default, described.get("description"))))
    if schema["properties"]:
        session.console.print(table)
    else:
        session.console.print("no fields")


def _print_findings(session: Session, title: str, findings: Iterable[Finding]) -> None:
    rows = list(findings)
    if not rows:
        session.console.print(f"{title}: nothing changed", markup=False)
        return
    counts = {weight: sum(row.weight is weight for row in rows) for weight in dict.fromkeys(row.weight for row in rows)}
    session.console.print(f"{title}: {', '.join(f'{n} {weight}' for weight, n in counts.items())}", markup=False)
    table = _table()
    for heading in ("WEIGHT", "RULE", "DIRECTION", "WHERE", "WHAT", "WHAT TO DO"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(cell, (row.weight, row.rule, row.direction, row.path, row.message, row.action)))
    session.console.print(table)


def _read(name: str) -> Snapshot:
    """The contract that a release number, a file or ``tree`` stands for."""
    if name == _TREE:
        return snapshot()
    try:
        if not Path(name).is_file():
            return ReleaseFiles().read(Release.parse(name))
        data: dict[str, Any] = json.loads(Path(name).read_text(encoding="utf-8"))
    except (NotFound, InvalidRequest) as error:
        raise CatalogueFailure(error) from error
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{name} cannot be read as a release file: {error}") from error
    if missing := {"release", "operations", "errors", "capabilities", "needs", "since", "types"} - set(data):
        raise click.UsageError(f"{name} is no release file: it lacks {', '.join(sorted(missing))}")
    return data


def _is_release(word: str) -> bool:
    return word == _TREE or word[:1].isdigit() or Path(word).is_file()


def _status(data: Snapshot) -> str:
    return "frozen" if Release.parse(data["release"]) in ReleaseFiles().digests() else "draft"
