"""``federation token``: who may use the REST interface."""

from __future__ import annotations

import time

import click

from federation.cli.completing import complete_clusters
from federation.cli.examples import examples
from federation.cli.rendering import moment, show_list
from federation.cli.session import Session, pass_session
from federation.protocol.records import Role

_DAY = 86400.0


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of the REST interface."""


@token.command(
    "create",
    epilog=examples(
        "federation token create ci --role operator --cluster lab --days 30",
        "federation token create me --role admin | federation login https://manager.example.org:8780",
    ),
)
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it allows.")
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    shell_complete=complete_clusters,
    help="Good for this cluster only; several times for several.",
)
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=90.0, show_default=True)
@pass_session
def create(session: Session, /, name: str, role: str, clusters: tuple[str, ...], days: float) -> None:
    """Make a token and write it to standard output, once: nobody keeps it.

    The manager learns only its digest.
    """
    from federation.manager.access import new_token

    made, identity, digest = new_token()
    record = session.ask(
        "add_token",
        id=identity,
        name=name,
        digest=digest,
        role=role,
        clusters=list(clusters) or None,
        lifetime_seconds=days * _DAY,
        created_by=session.user,
    )
    if not session.is_table:
        session.emit({**record, "bearer": made})
        return
    where = ", ".join(clusters) or "all clusters"
    session.messages.print(f"{role} of {where} until {moment(record['expires_at'])}, id {identity}", markup=False)
    click.echo(made)


@token.command("list", epilog=examples("federation token list", "federation token list -o yaml"))
@pass_session
def list_(session: Session, /) -> None:
    """List tokens, oldest first."""
    now = time.time()
    columns = {
        "ID": lambda t: t["id"],
        "NAME": lambda t: t["name"],
        "ROLE": lambda t: t["role"],
        "CLUSTERS": lambda t: "all" if t["clusters"] is None else ", ".join(t["clusters"]),
        "STATE": lambda t: "revoked" if t["revoked_at"] else "good" if now < t["expires_at"] else "expired",
        "EXPIRES": lambda t: moment(t["expires_at"]),
        "MADE BY": lambda t: t["created_by"],
    }
    show_list(session, session.ask("tokens"), columns, "no tokens; make one: federation token create NAME --role ROLE")


@token.command("revoke", epilog=examples("federation token revoke 01a2248fe315744da3554fdd394235ff"))
@click.argument("token_id", metavar="ID")
@pass_session
def revoke(session: Session, /, token_id: str) -> None:
    """Revoke a token; it is refused from the next request on."""
    record = session.ask("revoke_token", token=token_id)
    session.messages.print(f"revoked {record['name']} ({record['id']})", markup=False)
