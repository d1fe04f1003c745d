"""``federation top``: what an installation does now."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any

import click

from federation.cli.declared import OF_CLUSTER
from federation.cli.examples import examples
from federation.cli.exits import EXIT_UNREACHED
from federation.cli.session import CatalogueFailure, Session, pass_session
from federation.cli.top_snapshot import Snapshot, as_data, look

_ENOUGH = set(b"qQ\x04")


@click.command(
    epilog=examples("federation top", "federation top --cluster lab --interval 5", "federation top --once -o json")
)
@OF_CLUSTER
@click.option("--interval", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, metavar="SECONDS")
@click.option("--once", is_flag=True, help="Look once and end; so it is, too, where nobody looks at a terminal.")
@pass_session
def top(session: Session, /, cluster: str | None, interval: float, once: bool) -> None:  # noqa: FBT001 (click's flag)
    """Show what waits, runs and fails: clusters, partitions and who works on them, workers, operations in flight.

    BACKLOG is how long the present workers would need for what waits. ENDED/S counts outcomes between two looks. q or
    Ctrl-C ends it.
    """
    first = look(session.ask, cluster)
    if not session.is_table:
        session.emit(as_data(None, first))
    elif once or not (session.is_terminal and sys.stdin.isatty()):
        from federation.cli.top_view import title_of, view

        session.console.print(view(None, first, None, title_of(_address(session), first, None)))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            _live(session, first, cluster, interval)


def _live(session: Session, first: Snapshot, cluster: str | None, interval: float) -> None:
    from rich.live import Live

    from federation.cli.top_view import title_of, view

    before: Snapshot | None = None
    now, trouble = first, None

    def shown() -> Any:
        title = title_of(_address(session), now, trouble)
        return view(before, now, session.console.size.height, title)

    with _keys() as pressed, Live(shown(), console=session.console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + interval
        while not pressed(max(0.0, due - time.monotonic())):
            due = time.monotonic() + interval
            try:
                before, now, trouble = now, look(session.ask, cluster), None
            except CatalogueFailure as failure:
                if failure.exit_code != EXIT_UNREACHED:
                    raise
                trouble = failure.error.message
            live.update(shown(), refresh=True)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Keys without their return key, and a way to wait so many seconds for one that ends it."""
    terminal = sys.stdin.fileno()
    usual = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def pressed(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([terminal], [], [], left)
            if ready and (not (typed := os.read(terminal, 64)) or _ENOUGH & set(typed)):
                return True
        return False

    try:
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, usual)


def _address(session: Session) -> str:
    context = session.choice.context
    return "over the broker" if context is None else context.url
