"""Following an operation to its outcome: progress on a terminal, plain lines elsewhere, and a clean way out.

Ctrl-C leaves the operation running and says how to come back to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from federation.cli.plain_text import plain_line
from federation.cli.rendering import show_record
from federation.cli.session import EXIT_FAILED, EXIT_LEFT_RUNNING, CatalogueFailure, Session, telling
from federation.contract.errors import CATALOGUE
from federation.protocol.ordering_key import node_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SETTLED = {"succeeded", "failed", "refused", "unknown"}


def follow(session: Session, operation: dict[str, Any]) -> dict[str, Any]:
    """Wait for the outcome, show it, and end the command with 1 when it is not success."""
    try:
        settled = _wait(session, operation)
    except KeyboardInterrupt:
        session.messages.print(
            f"\nleft running: {operation['name']} {operation['id']}\n"
            f"  come back: federation operation watch {operation['id']}\n"
            f"  cancel it: federation operation cancel {operation['id']}",
            markup=False,
        )
        raise click.exceptions.Exit(EXIT_LEFT_RUNNING) from None
    show_outcome(session, settled)
    if settled["state"] != "succeeded":
        raise click.exceptions.Exit(EXIT_FAILED)
    return settled


def show_outcome(session: Session, operation: dict[str, Any]) -> None:
    """The operation with its outcome."""
    show_record(session, operation, OPERATION_FACTS)
    outcome = operation.get("outcome") or {}
    error = CATALOGUE.get(outcome.get("code") or "")
    if error is not None and session.is_table:
        session.messages.print(f"next: {error.next_move}", markup=False)


def progress_of(session: Session) -> Progress:
    """One line that is drawn on a terminal, and wiped in the end; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=session.messages,
        transient=True,
        disable=not session.messages.is_terminal,
    )


def _wait(session: Session, operation: dict[str, Any]) -> dict[str, Any]:
    if operation["state"] in SETTLED:
        return operation
    with progress_of(session) as progress:
        task = progress.add_task(_describe(operation), total=None)
        said = _say(session, progress, task, operation, "")
        try:
            with telling():
                for seen in session.way.follow(operation, lambda text: session.messages.print(text, markup=False)):
                    operation = seen
                    said = _say(session, progress, task, operation, said)
        except CatalogueFailure:
            session.messages.print(
                f"not known how it ends; come back: federation operation watch {operation['id']}", markup=False
            )
            raise
    return operation


def _say(session: Session, progress: Progress, task: TaskID, operation: dict[str, Any], said: str) -> str:
    text = _describe(operation)
    if session.messages.is_terminal:
        progress.update(
            task,
            description=text,
            completed=operation.get("percent") or 0,
            total=100 if operation.get("percent") else None,
        )
    elif text != said:
        session.messages.print(text, markup=False)
    return text


def _describe(operation: dict[str, Any]) -> str:
    words = [operation["name"], operation["state"]]
    if operation.get("worker") and operation["state"] == "running":
        words.append(f"on {operation['worker']}")
        if operation["attempt"] > 1:
            words.append(f"(attempt {operation['attempt']})")
    if operation.get("stage") and operation["state"] == "running":
        words.append(f"- {operation['stage']}")
    return plain_line(" ".join(words))


def subject(key: str) -> str:
    """What an operation is about, beside its cluster: an instance's id or a node's name."""
    node = node_of(key)
    return key if node is None else f"node {node[1]}"


def _outcome(operation: Any) -> str:
    outcome = operation.get("outcome") or {}
    return " ".join(word for word in (outcome.get("code"), outcome.get("message")) if word)


def _seconds(operation: Any) -> str:
    if not operation.get("finished_at"):
        return ""
    return f"{operation['finished_at'] - operation['submitted_at']:.2f} s"


OPERATION_FACTS = {
    "operation": lambda o: o["id"],
    "name": lambda o: o["name"],
    "state": lambda o: o["state"],
    "cluster": lambda o: o["cluster"],
    "instance": lambda o: None if node_of(o["key"]) else o["key"],
    "node": lambda o: subject(o["key"]) if node_of(o["key"]) else None,
    "sequence": lambda o: o["sequence"],
    "worker": lambda o: o.get("worker"),
    "attempt": lambda o: o.get("attempt") or None,
    "progress": lambda o: o.get("stage") if o["state"] == "running" else None,
    "took": _seconds,
    "outcome": _outcome,
    "resolution": lambda o: o.get("resolution"),
}
