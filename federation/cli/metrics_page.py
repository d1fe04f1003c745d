"""docs/reference/metrics.md, made from the catalogue; ``python -m federation.cli.metrics_page`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from federation.observe.catalogue import ESTATE, MANAGER, WORKER, Metric

PAGE = Path("docs/reference/metrics.md")
_HEAD = """# Metrics

What `federation manager --metrics HOST:PORT` and `federation worker --metrics HOST:PORT` export at `/metrics`, beside
`process_…` of the process itself. Labels have few values by rule: clusters and partitions that there are, admitted workers,
declared operations, error codes and drivers; never an instance, an operation's id or a user.
[How to look at them](../how-to/observe.md).
"""
_GROUPS = (
    (
        "The estate, told by every manager",
        "Read from the one store: every manager tells the same, so aggregate with `max`, not with `sum`.",
        ESTATE,
    ),
    ("A manager", "Its own: several managers are summed.", MANAGER),
    ("A worker", "Its own: several workers are summed.", WORKER),
)


def render() -> str:
    """The page."""
    lines = [_HEAD]
    for title, text, metrics in _GROUPS:
        lines += [f"## {title}", "", text, "", *_table(metrics), ""]
    return "\n".join(lines)


def _table(metrics: Iterable[Metric]) -> Iterable[str]:
    yield "| metric | kind | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{metric.name}` | {metric.kind} | {_unit(metric)} | {labels} | {metric.meaning} |"


def _unit(metric: Metric) -> str:
    last = metric.name.removesuffix("_total").rpartition("_")[2]
    if last in {"seconds", "bytes"}:
        return last
    return "0 or 1" if metric.meaning.startswith("1 ") else "count"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
