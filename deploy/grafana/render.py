"""Draws the dashboard's panels without Grafana: the same queries, answered by a real Prometheus, drawn by matplotlib.

`uv run --no-project --with matplotlib deploy/grafana/render.py http://127.0.0.1:9090 dashboard.png --minutes 5`
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.dates import DateFormatter

DASHBOARD = Path(__file__).parent / "dashboards" / "federation.json"
COLUMNS = 24
ROW_INCHES = 0.42
SECONDS = 10
MOST_NAMES = 8


def ask(prometheus: str, path: str, **parameters: object) -> list[dict[str, Any]]:
    """The result of one query of Prometheus' API."""
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=SECONDS) as reply:  # noqa: S310 (the person at the keyboard gives the URL)
        found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
    return found


def named(target: dict[str, Any], labels: dict[str, str]) -> str:
    """Grafana's legend: `{{label}}` filled in."""
    text = str(target.get("legendFormat") or "")
    for label, value in labels.items():
        text = text.replace(f"{{{{{label}}}}}", value)
    return text or ", ".join(f"{label}={value}" for label, value in sorted(labels.items()))


def draw(axes: Any, panel: dict[str, Any], prometheus: str, minutes: float) -> None:
    """One panel: lines, or for a stat the last values as text."""
    axes.set_title(panel["title"], fontsize=8, loc="left", fontweight="bold")
    axes.tick_params(labelsize=6)
    now = time.time()
    times = {"start": now - minutes * 60, "end": now, "step": max(1, minutes * 60 / 200)}
    lines: list[str] = []
    for target in panel["targets"]:
        query = target["expr"].replace("$cluster", ".+").replace("$__rate_interval", "20s")
        if panel["type"] == "timeseries":
            for series in ask(prometheus, "query_range", query=query, **times):
                points = [(float(at), float(value)) for at, value in series["values"]]
                shown = [(dt.datetime.fromtimestamp(at, dt.UTC), value) for at, value in points if math.isfinite(value)]
                axes.plot(*zip(*shown, strict=True), linewidth=1, label=named(target, series["metric"]))
        else:
            for series in ask(prometheus, "query", query=query):
                value = "" if panel["type"] == "table" else f"{float(series['value'][1]):.3g}"
                lines.append(f"{named(target, series['metric'])} {value}".strip())
    if panel["type"] == "timeseries":
        finish(axes, panel)
    else:
        axes.axis("off")
        axes.text(0.02, 0.5, "\n".join(lines) or "no data", fontsize=10, va="center", transform=axes.transAxes)


def finish(axes: Any, panel: dict[str, Any]) -> None:
    """Axes, units and legend of lines."""
    if not axes.lines:
        axes.text(0.5, 0.5, "no data", ha="center", fontsize=7, transform=axes.transAxes)
        axes.set_xticks([])
        return
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.set_ylabel({"s": "seconds", "ops": "per second"}.get(panel["fieldConfig"]["defaults"]["unit"], ""), fontsize=6)
    if len(axes.lines) <= MOST_NAMES:
        axes.legend(fontsize=5, loc="upper left", framealpha=0.6)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prometheus")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    mpl.use("agg")
    panels = json.loads(DASHBOARD.read_text())["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(16, height * ROW_INCHES), dpi=90)
    for panel in panels:
        at = panel["gridPos"]
        left, bottom = at["x"] / COLUMNS, 1 - (at["y"] + at["h"]) / height
        if panel["type"] == "row":
            figure.text(0.01, bottom, panel["title"], fontsize=10, color="tab:blue")
            continue
        box = (left + 0.025, bottom + 0.55 / height, at["w"] / COLUMNS - 0.035, (at["h"] - 1.6) / height)
        draw(figure.add_axes(box), panel, asked.prometheus, asked.minutes)
    figure.savefig(asked.picture)


if __name__ == "__main__":
    main()
