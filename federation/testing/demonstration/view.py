"""What a person sees while it runs: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from federation.protocol.records import OperationState
from federation.testing.demonstration.estate import DemoEstate
from federation.testing.demonstration.verdict import Line

_LINE_EVERY = 3.0
_BAR = 30


@dataclass(slots=True)
class View:
    """``live`` is None where nobody looks at a terminal."""

    console: Console
    live: Live | None
    next_line: float = 0.0
    said: list[str] = field(default_factory=list)

    def update(self, estate: DemoEstate, wanted: int) -> None:
        """Show how far it has come."""
        counts = estate.manager.manager.operating.counts()
        if self.live is not None:
            self.live.update(self._table(estate, counts, wanted))
        elif time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + _LINE_EVERY
            done = sum(c.get("succeeded", 0) for c in counts.values())
            running = sum(c.get("running", 0) for c in counts.values())
            self.console.print(f"  {done} of {wanted} operations done, {running} running")

    def say(self, text: str) -> None:
        """Something happened."""
        self.said.append(text)
        if self.live is None:
            self.console.print(f"  {text}")

    def _table(self, estate: DemoEstate, counts: dict[str, dict[str, int]], wanted: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title_justify="left", title=f"{wanted} operations accepted")
        for title in ("CLUSTER", "DONE", "RUNNING", "QUEUED", "PROGRESS", "WORKERS"):
            table.add_column(title, no_wrap=True)
        held = Counter(
            o.worker for o in estate.manager.manager.operating.operations(state=OperationState.RUNNING, limit=500)
        )
        for cluster in estate.clusters:
            count = counts.get(cluster.name, {})
            done, running, queued = (count.get(state, 0) for state in ("succeeded", "running", "queued"))
            share = round(_BAR * done / max(1, done + running + queued))
            bar = Text("█" * share, style="green") + Text("░" * (_BAR - share), style="dim")
            workers = Text("  ").join(
                Text(f"{crew.name} dropped", style="bold red")
                if crew.dropped
                else Text(f"{crew.name} {held[crew.name]}")
                for crew in estate.crews
                if crew.cluster == cluster.name
            )
            table.add_row(f"{cluster.name} ({cluster.kind})", str(done), str(running), str(queued), bar, workers)
        for text in self.said:
            table.caption = text
            table.caption_justify = "left"
        return table


def show_verdict(console: Console, lines: Sequence[Line], seconds: float) -> None:
    """The verdict, line by line."""
    console.print()
    width = max(len(line.title) for line in lines)
    for line in lines:
        mark = Text("ok    ", style="green") if line.holds else Text("BROKEN", style="bold red")
        remark = Text(f"  {line.remark}", style="dim")
        console.print(Text("  ") + mark + Text(f" {line.title:<{width}}  {line.value:>9}") + remark)
    verdict = (
        "every claim above was checked and holds" if all(line.holds for line in lines) else "a claim does not hold"
    )
    console.print(Text(f"\n  {verdict} ({seconds:.0f} s)", style="bold"))
