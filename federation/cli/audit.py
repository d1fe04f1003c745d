"""``federation audit``: who asked for what."""

from __future__ import annotations

import click

from federation.cli.completing import complete_clusters
from federation.cli.examples import examples
from federation.cli.rendering import moment, show_list
from federation.cli.session import Session, pass_session


@click.group()
def audit() -> None:
    """See who asked for what."""


@audit.command(
    "list",
    epilog=examples(
        "federation audit list --cluster lab",
        'federation audit list --actor "token ci" --action destroy -o json',
    ),
)
@click.option("--actor", help='Only what this one asked for, as the list names it: "token NAME" or "user NAME".')
@click.option("--cluster", shell_complete=complete_clusters, help="Only what concerns this cluster.")
@click.option("--action", help="Only this operation or use case, such as create or drain_worker.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--before", metavar="ID", help="Continue with what is older than this record.")
@pass_session
def list_(
    session: Session, /, actor: str | None, cluster: str | None, action: str | None, limit: int, before: str | None
) -> None:
    """List requests that would change something, accepted and refused, newest first."""
    filters = {"actor": actor, "cluster": cluster, "action": action}
    records = session.ask("audit", **filters, limit=limit, before=before)
    columns = {
        "AT": lambda r: moment(r["at"]),
        "WHO": lambda r: r["actor"],
        "ACTION": lambda r: r["action"],
        "CLUSTER": lambda r: r["cluster"],
        "SUBJECT": lambda r: r["subject"],
        "OPERATION": lambda r: r["operation"],
        "RESULT": lambda r: r["result"],
        "REQUEST": lambda r: r["request"],
    }
    show_list(session, records, columns, "nothing was asked for")
    if len(records) == limit and session.is_table:
        session.messages.print(f"more: --before {records[-1]['id']}", markup=False)
