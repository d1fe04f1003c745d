"""How records look: tables and facts for people, JSON or YAML for programs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federation.cli.plain_text import plain
from federation.cli.session import Session

if TYPE_CHECKING:
    from rich.text import Text

Column = Callable[[Mapping[str, Any]], object]

_STYLES = {
    "succeeded": "green",
    "running": "green",
    "admitted": "green",
    "failed": "red",
    "unknown": "bold red",
    "refused": "yellow",
    "lost": "red",
    "draining": "yellow",
    "waiting": "yellow",
    "stopped": "dim",
    "parked": "bold red",
}
_KIB = 1024
_UUID_WIDTH = 36


def show_list(
    session: Session, records: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], empty: str
) -> None:
    """A table of records, or data for programs; ``empty`` is said when there are none."""
    if not session.is_table:
        session.emit(list(records))
        return
    if not records:
        session.messages.print(empty, markup=False)
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in columns:
        table.add_column(title, overflow="ellipsis", no_wrap=True, min_width=_UUID_WIDTH if title == "ID" else None)
    for record in records:
        table.add_row(*(cell(column(record)) for column in columns.values()))
    session.console.print(table)


def show_record(session: Session, record: Mapping[str, Any], facts: Mapping[str, Column]) -> None:
    """One record as lines of facts, or data for programs."""
    if not session.is_table:
        session.emit(record)
        return
    from rich.text import Text

    width = max(len(title) for title in facts)
    for title, column in facts.items():
        text = cell(column(record))
        if text.plain:
            session.console.print(Text(f"{title:<{width}}  ", style="dim") + text)


def cell(value: object) -> Text:
    """A value as text, coloured where the word has a colour."""
    from rich.text import Text

    said = "" if value is None else plain(str(value))
    return Text(said, style=_STYLES.get(said, ""))


def moment(seconds: float | None) -> str:
    """An instant in UTC."""
    if seconds is None:
        return ""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(size_bytes: float | None) -> str:
    """Bytes for people."""
    if size_bytes is None:
        return ""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < _KIB or unit == "TiB":
            return f"{amount:g} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{size_bytes} B"


def age(seconds: float | None, now: float) -> str:
    """How long ago."""
    if not seconds:
        return ""
    past = max(0.0, now - seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if past >= length:
            return f"{past / length:.0f}{unit}"
    return f"{past:.0f}s"
