"""``federation cluster repartition`` and ``republish``: another number of partitions, and a rebuilt broker.

The managers do the work; these commands ask for it and follow it.  Ctrl-C leaves it going on.
"""

from __future__ import annotations

import time
from typing import Any

import click

from federation.cli.completing import complete_clusters
from federation.cli.examples import examples
from federation.cli.rendering import show_record
from federation.cli.session import EXIT_LEFT_RUNNING, EXIT_UNREACHED, CatalogueFailure, Session, pass_session
from federation.cli.waiting import progress_of

_POLL_SECONDS = 0.5
_PATIENCE = 60.0
"""Seconds without a manager's answer before the command gives up; the change goes on."""
_FACTS = {
    "cluster": lambda e: e["cluster"],
    "epoch": lambda e: e["epoch"],
    "partitions": lambda e: e["partitions"],
    "wanted": lambda e: e["wanted_partitions"],
    "phase": lambda e: e["phase"],
    "unsettled": lambda e: e["unsettled"] or None,
    "behind": lambda e: ", ".join(e["behind"]),
    "old epochs": lambda e: ", ".join(map(str, e["old_epochs"])),
}


@click.command(
    epilog=examples(
        "federation cluster repartition lab --partitions 64",
        "federation cluster repartition lab --partitions 64 --give-up-after 600",
        "federation cluster repartition lab --take-back",
    )
)
@click.argument("name", shell_complete=complete_clusters)
@click.option("--partitions", type=click.IntRange(1, 1024), help="How many it shall have.")
@click.option("--take-back", is_flag=True, help="Keep the number that it has; possible until the next epoch is open.")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end (default), or not.")
@click.option(
    "--give-up-after",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Take it back when not everything is settled by then.",
)
@pass_session
def repartition(
    session: Session,
    /,
    name: str,
    partitions: int | None,
    take_back: bool,  # noqa: FBT001
    wait: bool,  # noqa: FBT001
    give_up_after: float | None,
) -> None:
    """Give a cluster another number of partitions.

    Nothing new is accepted for the cluster until all that it has accepted is settled and one lease has passed; then a
    new epoch opens, the workers subscribe to its queues, and the old queues are removed.  Ctrl-C leaves it going on;
    the same command comes back to it.
    """
    if (partitions is None) != take_back:
        message = "give either --partitions N or --take-back"
        raise click.UsageError(message)
    if take_back:
        show_record(session, session.ask("take_back_repartition", cluster=name), _FACTS)
        return
    facts = session.ask("repartition", cluster=name, partitions=partitions)
    if wait:
        try:
            facts = _follow(session, facts, give_up_after)
        except KeyboardInterrupt:
            session.messages.print(
                f"\nit goes on without you\n"
                f"  come back:    federation cluster repartition {name} --partitions {partitions}\n"
                f"  take it back: federation cluster repartition {name} --take-back",
                markup=False,
            )
            raise click.exceptions.Exit(EXIT_LEFT_RUNNING) from None
    show_record(session, facts, _FACTS)


@click.command(epilog=examples("federation cluster republish lab"))
@click.argument("name", shell_complete=complete_clusters)
@pass_session
def republish(session: Session, /, name: str) -> None:
    """Declare a cluster's queues and publish its unsettled operations again: after a broker was rebuilt.

    Harmless at any other time: a copy too many is recognised and dropped.
    """
    after: Any = None
    count = 0
    while True:
        page = session.ask("republish", cluster=name, after=after)
        count += page["operations"]
        after = page["next"]
        if after is None:
            break
        session.messages.print(f"published again so far: {count}", markup=False)
    if not session.is_table:
        session.emit({"cluster": name, "operations": count})
    else:
        session.console.print(f"cluster {name}: queues declared, {count} operations published again", markup=False)


def _follow(session: Session, facts: dict[str, Any], give_up_after: float | None) -> dict[str, Any]:
    ends = None if give_up_after is None else time.monotonic() + give_up_after
    most = max(1, facts["unsettled"])
    said = ""
    with progress_of(session) as progress:
        task = progress.add_task(_words(facts), total=most)
        while facts["phase"] != "steady":
            text = _words(facts)
            progress.update(task, description=text, completed=most - facts["unsettled"])
            if not session.messages.is_terminal and text != said:
                session.messages.print(text, markup=False)
                said = text
            if ends is not None and time.monotonic() > ends and facts["phase"] == "draining":
                _give_up(session, facts, give_up_after)
            time.sleep(_POLL_SECONDS)
            facts = _look(session, facts["cluster"])
    return facts


def _give_up(session: Session, facts: dict[str, Any], after: float | None) -> None:
    session.ask("take_back_repartition", cluster=facts["cluster"])
    message = f"taken back: {facts['unsettled']} operations were not settled after {after:g} s ({_words(facts)})"
    raise click.ClickException(message)


def _look(session: Session, cluster: str) -> dict[str, Any]:
    """A manager that restarts is waited for: the change stands in the store."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            found: dict[str, Any] = session.ask("epoch", cluster=cluster)
        except CatalogueFailure as failure:
            if failure.exit_code != EXIT_UNREACHED or time.monotonic() >= deadline:
                raise
            session.messages.print("the manager does not answer; still waiting", markup=False)
            time.sleep(_POLL_SECONDS)
        else:
            return found


def _words(facts: dict[str, Any]) -> str:
    """Where it stands, and what an operator can do about it where it stands still."""
    match facts["phase"]:
        case "draining":
            words = f"draining: {facts['unsettled']} operations unsettled, {facts['running']} of them running"
            if facts["blocked"]:
                return f"{words}; parked, resolve them: {', '.join(facts['blocked'])}"
            return words if facts["workers"] else f"{words}; no worker lives: start one, or take the change back"
        case "waiting":
            return "everything is settled; one lease passes"
        case "moving":
            return f"epoch {facts['epoch']} is open; workers that have not moved yet: {', '.join(facts['behind'])}"
        case "clearing":
            return f"epoch {facts['epoch']} is open; old queues are removed when nobody consumes them any more"
        case phase:
            return str(phase)
