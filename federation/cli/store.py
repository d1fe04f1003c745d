"""``federation backup``, ``restore`` and ``store``: the managers' database itself; no manager is asked."""

from __future__ import annotations

from pathlib import Path

import click

from federation.bootstrap import backups
from federation.cli.examples import examples
from federation.cli.rendering import moment, show_list, show_record
from federation.cli.session import Session, pass_session

_TOLD_OF_PARKED = 20
_STORE = click.option(
    "--store", metavar="URL", help="SQLAlchemy URL of the store; FEDERATION_MANAGER_STORE keeps it out of sight."
)
_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command(
    "backup", epilog=examples("federation backup federation.backup", "federation backup federation.backup --force")
)
@_FILE
@_STORE
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@pass_session
def backup(session: Session, /, file: Path, store: str | None, force: bool) -> None:  # noqa: FBT001 (click)
    """Write everything that the managers keep into one file, while they go on.

    The file holds passwords and user data of operations that are not settled: only its owner can read it, keep it so.
    """
    facts = backups.back_up(store or session.conf.manager.store, file, replace=force)
    told = {"file": str(file), "schema": facts.schema, "from": facts.source, "taken": facts.taken_at, **facts.rows}
    if not session.is_table:
        show_record(session, told, {})
        return
    rows = ", ".join(f"{count} {table}" for table, count in facts.rows.items() if count)
    session.console.print(f"{file}: {rows or 'an empty store'}; schema {facts.schema}", markup=False)


@click.command(
    "restore", epilog=examples("federation restore federation.backup", "federation restore federation.backup --force")
)
@_FILE
@_STORE
@click.option("--force", is_flag=True, help="Lose what is in the store now.")
@click.option("--revoke-tokens", is_flag=True, help="Revoke every token: those that were revoked since are good again.")
@pass_session
def restore(
    session: Session,
    /,
    file: Path,
    store: str | None,
    force: bool,  # noqa: FBT001 (click)
    revoke_tokens: bool,  # noqa: FBT001 (click)
) -> None:
    """Load a backup into an empty store, or with --force into any that no manager works on.

    Every cluster goes on in a new epoch.  What was not settled when the backup was made may have run since: its
    instances are parked until you have looked at them.
    """
    facts, done = backups.restore(store or session.conf.manager.store, file, replace=force, revoke_tokens=revoke_tokens)
    told = {"taken_at": facts.taken_at, **{name: getattr(done, name) for name in done.__slots__}}
    if not session.is_table:
        show_record(session, told, {})
        return
    session.console.print(f"restored what was so at {moment(facts.taken_at)} UTC", markup=False)
    say = session.messages.print
    if done.revoked_tokens:
        say(f"{done.revoked_tokens} tokens revoked; make new ones: federation token create", markup=False)
    if done.parked:
        more = len(done.parked) - _TOLD_OF_PARKED
        who = ", ".join(done.parked[:_TOLD_OF_PARKED]) + (f" and {more} more" if more > 0 else "")
        say(f"parked, {done.unknown} operations have an unknown outcome: {who}", markup=False)
        say("next: look at each, then federation instance resolve ID --retry | --accept | --abandon", markup=False)
    for cluster in done.clusters:
        say(f"next: start a manager, then federation cluster compare {cluster}", markup=False)


@click.group()
def store() -> None:
    """See which release the store's tables are of, and take them back to an older one."""


@store.command("show", epilog=examples("federation store show"))
@_STORE
@pass_session
def show(session: Session, /, store: str | None) -> None:
    """Show the revision of the tables, and those that this program knows."""
    current = backups.schema_of(store or session.conf.manager.store)
    known = backups.revisions()
    records = [{"revision": each.name, "brought": each.summary, "here": each.name == current} for each in known]
    columns = {
        "REVISION": lambda r: r["revision"],
        "": lambda r: "the store" if r["here"] else "",
        "BROUGHT": lambda r: r["brought"],
    }
    show_list(session, records, columns, "no revisions")
    if current not in {each.name for each in known}:
        session.messages.print(f"the store's tables: {current or 'none'}", markup=False)


@store.command("downgrade", epilog=examples("federation store downgrade --to r0003"))
@_STORE
@click.option("--to", "revision", required=True, metavar="REVISION", help="As federation store show names it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def downgrade(session: Session, /, store: str | None, revision: str, yes: bool) -> None:  # noqa: FBT001 (click)
    """Take the tables back to an older revision, before managers of that release are started; none may run.

    Make a backup first: what only newer tables hold is lost.
    """
    url = store or session.conf.manager.store
    losses = backups.plan_downgrade(url, revision)
    for loss in losses:
        session.messages.print(f"lost: {loss.where}, {loss.rows} rows", markup=False)
    if not yes:
        click.confirm(f"Take the store back to {revision}?", abort=True, err=True)
    backups.downgrade_store(url, revision)
    session.messages.print(f"the store's tables are of revision {revision} now", markup=False)
