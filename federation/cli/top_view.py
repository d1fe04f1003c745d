"""How ``federation top`` looks: tables that fit a screen of so many lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.cli.rendering import age, cell, moment
from federation.cli.top_snapshot import Record, Snapshot, rate
from federation.cli.waiting import subject

_HEAD_LINES = 3
"""A title, the columns, an empty line."""
_LEAST_ROWS = 2


def view(before: Snapshot | None, now: Snapshot, height: int | None, title: Text) -> RenderableType:
    """Everything, or as much as fits ``height`` lines; None for all of it."""
    parts = [
        ("clusters", _CLUSTERS, [_cluster(before, now, each) for each in now.figures]),
        ("partitions with work", _PARTITIONS, [_partition(each, now) for each in _busiest(now)]),
        ("workers", _WORKERS, [_worker(each, now) for each in now.workers]),
        ("in flight", _RUNNING, [_running(each, now) for each in now.running]),
        ("failed last", _FAILURES, [_failure(each, now) for each in now.failures]),
    ]
    room = rooms([len(rows) for _, _, rows in parts], None if height is None else height - 1)
    tables = [
        _table(name, columns, rows, most) for (name, columns, rows), most in zip(parts, room, strict=True) if rows
    ]
    return Group(title, *tables)


def rooms(rows: Sequence[int], height: int | None) -> list[int]:
    """How many rows each table may show: what there is, cut from the longest down where the screen is too small."""
    shown = list(rows)
    if height is None:
        return shown
    free = height - sum(_HEAD_LINES for count in rows if count)
    while sum(shown) > free and max(shown) > _LEAST_ROWS:
        shown[shown.index(max(shown))] -= 1
    return shown


_CLUSTERS = (
    "CLUSTER",
    "DRIVER",
    "PIN",
    "WORKERS",
    "SLOTS",
    "WAITING",
    "BACKLOG",
    "OLDEST",
    "RUNNING",
    "PARKED",
    "ENDED/S",
)
_PARTITIONS = ("CLUSTER", "PARTITION", "WORKER", "WAITING", "RUNNING", "PARKED", "BEHIND PARKED")
_WORKERS = ("WORKER", "CLUSTER", "STATE", "PARTITIONS", "RUNNING", "HELD", "SLOTS", "BUGS", "SEEN")
_RUNNING = ("OPERATION", "NAME", "SUBJECT", "CLUSTER", "WORKER", "TRY", "FOR", "STAGE")
_FAILURES = ("OPERATION", "NAME", "SUBJECT", "CLUSTER", "AGO", "CODE", "MESSAGE")


def _cluster(before: Snapshot | None, now: Snapshot, each: Record) -> list[Any]:
    ended = rate(before, now, each["cluster"])
    backlog = each["backlog_seconds"]
    return [
        each["cluster"],
        each["driver"],
        each["release"],
        each["workers"].get("admitted", 0),
        each["slots"],
        each["waiting"],
        Text("no worker", style="bold red") if backlog is None else f"{backlog:.1f}s",
        f"{each['oldest_waiting_seconds']:.0f}s" if each["waiting"] else "",
        each["running"],
        Text(str(each["parked"]), style="bold red" if each["parked"] else ""),
        "" if ended is None else f"{ended:.1f}",
    ]


def _busiest(now: Snapshot) -> list[Record]:
    every = [partition for each in now.figures for partition in each["partitions"]]
    return sorted(every, key=lambda p: (-p["waiting"] - p["running"], p["cluster"], p["partition"]))


def _partition(each: Record, now: Snapshot) -> list[Any]:
    del now
    counts = [each[name] or "" for name in ("waiting", "running", "parked", "behind_parked")]
    return [each["cluster"], each["partition"], each["worker"] or "", *counts]


def _worker(each: Record, now: Snapshot) -> list[Any]:
    load = each["load"]
    figures = [f"{load.get(name, 0):g}" for name in ("partitions", "running", "held", "max_operations", "driver_bugs")]
    return [each["id"], each["cluster"], each["state"], *figures, age(each["last_seen"], now.taken_at)]


def _running(each: Record, now: Snapshot) -> list[Any]:
    percent = f"{each['percent']:.0f}% " if each["percent"] is not None else ""
    since = age(each["started_at"] or each["submitted_at"], now.taken_at)
    return [*_named(each), each["worker"], each["attempt"], since, f"{percent}{each['stage'] or ''}"]


def _failure(each: Record, now: Snapshot) -> list[Any]:
    outcome = each["outcome"] or {}
    return [*_named(each), age(each["finished_at"], now.taken_at), outcome.get("code"), outcome.get("message")]


def _named(each: Record) -> list[Any]:
    return [each["id"], each["name"], subject(each["key"]), each["cluster"]]


def _table(name: str, columns: Iterable[str], rows: Sequence[Sequence[Any]], most: int) -> Table:
    left = len(rows) - most
    title = f"{name} ({len(rows)}{f', {left} not shown' if left > 0 else ''})"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
        expand=False,
    )
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in rows[:most]:
        table.add_row(*(each if isinstance(each, Text) else cell(each) for each in row))
    return table


def title_of(address: str, now: Snapshot, trouble: str | None) -> Text:
    """The first line: whom, when, and what is wrong with the way there."""
    line = Text.assemble(("federation top", "bold"), f"  {address}  {moment(now.taken_at)} UTC")
    if trouble is not None:
        line.append(f"  old: {trouble}", style="bold red")
    return line
