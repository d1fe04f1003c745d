"""``federation operation``: look at, follow and cancel operations."""

from __future__ import annotations

import time

import click

from federation.cli.completing import complete_instances, complete_nodes, complete_operations
from federation.cli.declared import OF_CLUSTER
from federation.cli.examples import examples
from federation.cli.rendering import age, show_list
from federation.cli.session import Session, pass_session
from federation.cli.waiting import follow, show_outcome, subject
from federation.protocol.records import OperationState

_OPERATION = click.argument("operation_id", metavar="OPERATION", shell_complete=complete_operations)
_SOME = "0197c1e0-5a3b-7c11-8a54-2f6d1e0c9b01"


@click.group()
def operation() -> None:
    """Look at, follow and cancel operations."""


@operation.command(
    "list",
    epilog=examples(
        "federation operation list --state running",
        "federation operation list --instance web-1 --limit 5",
        "federation operation list --cluster lab --node node-1 -o json",
    ),
)
@OF_CLUSTER
@click.option("--instance", shell_complete=complete_instances, help="Only this instance's (id or name).")
@click.option("--node", shell_complete=complete_nodes, help="Only this node's; needs --cluster.")
@click.option("--state", type=click.Choice([state.value for state in OperationState]))
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", metavar="ID", help="Continue with what is older than this operation.")
@pass_session
def list_(
    session: Session,
    /,
    cluster: str | None,
    instance: str | None,
    node: str | None,
    state: str | None,
    limit: int,
    before: str | None,
) -> None:
    """List operations, newest first."""
    if instance and node:
        message = "give --instance or --node, not both"
        raise click.UsageError(message)
    key = session.ask("instance", instance=instance, cluster=cluster)["id"] if instance else None
    filters = {"cluster": cluster, "instance": key, "node": node, "state": state}
    records = session.ask("operations", **filters, limit=limit, before=before)
    now = time.time()
    columns = {
        "ID": lambda o: o["id"],
        "OPERATION": lambda o: o["name"],
        "STATE": lambda o: o["state"],
        "CLUSTER": lambda o: o["cluster"],
        "SUBJECT": lambda o: subject(o["key"]),
        "SEQ": lambda o: o["sequence"],
        "WORKER": lambda o: o["worker"],
        "AGE": lambda o: age(o["submitted_at"], now),
        "CODE": lambda o: (o["outcome"] or {}).get("code"),
    }
    show_list(session, records, columns, "no operations")
    if len(records) == limit and session.is_table:
        session.messages.print(f"more: --before {records[-1]['id']}", markup=False)


@operation.command(
    "show", epilog=examples(f"federation operation show {_SOME}", f"federation operation show {_SOME} -o yaml")
)
@_OPERATION
@pass_session
def show(session: Session, /, operation_id: str) -> None:
    """Show one operation and its outcome."""
    show_outcome(session, session.ask("operation", operation=operation_id))


@operation.command("watch", epilog=examples(f"federation operation watch {_SOME}"))
@_OPERATION
@pass_session
def watch(session: Session, /, operation_id: str) -> None:
    """Follow an operation to its outcome; ends with status 0 only when it succeeded."""
    follow(session, session.ask("operation", operation=operation_id))


@operation.command("cancel", epilog=examples(f"federation operation cancel {_SOME}"))
@_OPERATION
@click.option("--wait/--no-wait", default=True, help="Follow it to its outcome (default), or not.")
@pass_session
def cancel(session: Session, /, operation_id: str, wait: bool) -> None:  # noqa: FBT001 (click's flag)
    """Cancel an operation: refused if it has not started, undone by the driver where it runs.

    Ends with status 0 when it was cancelled, 1 when it had another outcome.
    """
    record = session.ask("cancel", operation=operation_id)
    if not wait:
        show_outcome(session, record)
        return
    try:
        follow(session, record)
    except click.exceptions.Exit:
        outcome = session.ask("operation", operation=operation_id).get("outcome") or {}
        if outcome.get("code") != "cancelled":
            raise
