"""``federation context``: the managers that one is logged in to."""

from __future__ import annotations

from typing import Any

import click

from federation.cli.choosing import shadowed_by
from federation.cli.completing import complete_contexts
from federation.cli.contexts_file import LOCAL, ContextError, Contexts, changing, read_contexts
from federation.cli.examples import examples
from federation.cli.rendering import show_list, show_record
from federation.cli.session import Session, pass_session

_NAME = click.argument("name", metavar="CONTEXT", shell_complete=complete_contexts)


@click.group()
def context() -> None:
    """See and choose the managers that you are logged in to.

    `local` is no login: it stands for the broker of the configuration, as on a manager's own host.
    """


@context.command(
    "list", epilog=examples("federation context list", "federation context list -o json | jq -r '.[].name'")
)
@pass_session
def list_(session: Session, /) -> None:
    """List the contexts; the one that a command takes now is marked."""
    known, chosen = _read(session), session.choice
    records = [
        {"name": name, "url": each.url, "ca_file": each.ca_file, "used": chosen.name == name}
        for name, each in sorted(known.contexts.items())
    ]
    records.append({"name": LOCAL, "url": None, "ca_file": None, "used": chosen.name == LOCAL})
    columns = {
        "": lambda c: "*" if c["used"] else "",
        "NAME": lambda c: c["name"],
        "URL": lambda c: c["url"] or "over the broker",
        "AUTHORITIES": lambda c: c["ca_file"] or ("the system's" if c["url"] else ""),
    }
    show_list(session, records, columns, "none")
    if session.is_table:
        session.messages.print(f"* by {chosen.reason}", markup=False)


@context.command("show", epilog=examples("federation context show", "federation --context lab context show"))
@pass_session
def show(session: Session, /) -> None:
    """Show which way a command takes now, and why."""
    chosen = session.choice
    facts: dict[str, Any] = {"context": chosen.name, "decided_by": chosen.reason}
    if chosen.context is not None:
        facts |= {"url": chosen.context.url, "ca_file": chosen.context.ca_file}
        facts |= {f"token_{name}": value for name, value in session.ask("own_token").items() if name != "revoked_at"}
    show_record(session, facts, {name.replace("_", " "): _fact(name) for name in facts})


def _fact(name: str) -> Any:
    from federation.cli.rendering import moment

    def value(facts: Any) -> Any:
        found = facts[name]
        if name.endswith("_at"):
            return moment(found)
        if name == "token_clusters":
            return ", ".join(found) if found else "all"
        return found

    return value


@context.command("use", epilog=examples("federation context use lab", "federation context use local"))
@_NAME
@pass_session
def use(session: Session, /, name: str) -> None:
    """Take this context where nothing else is said; `local` for none."""

    def change(known: Contexts) -> Contexts:
        if name != LOCAL:
            known.named(name)
        return Contexts(current=None if name == LOCAL else name, contexts=known.contexts)

    _change(session, change)
    session.messages.print(f"commands go to {name}", markup=False)
    if (variable := shadowed_by(session.environment)) is not None:
        session.messages.print(f"{variable} is set and goes before it", markup=False)


@context.command("remove", epilog=examples("federation context remove lab"))
@_NAME
@pass_session
def remove(session: Session, /, name: str) -> None:
    """Forget a context and its token; the token itself stays good until it is revoked (federation token revoke)."""

    def change(known: Contexts) -> Contexts:
        known.named(name)
        left = {other: each for other, each in known.contexts.items() if other != name}
        return Contexts(current=None if known.current == name else known.current, contexts=left)

    _change(session, change)
    session.messages.print(f"forgot context {name}", markup=False)


def _read(session: Session) -> Contexts:
    try:
        return read_contexts(session.contexts_path)
    except ContextError as error:
        raise click.UsageError(str(error)) from error


def _change(session: Session, change: Any) -> None:
    try:
        with changing(session.contexts_path) as held:
            held[0] = change(held[0])
    except ContextError as error:
        raise click.UsageError(str(error)) from error
