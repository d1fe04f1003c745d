"""``federation login``: check a token against a manager and keep both as a context."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from federation.cli.choosing import shadowed_by
from federation.cli.contexts_file import Context, ContextError, changing, check_name, check_url
from federation.cli.examples import examples
from federation.cli.problems import Problem
from federation.cli.rendering import moment
from federation.cli.session import Session, pass_session, telling

_LONGEST_TOKEN = 4096
_EXAMPLES = examples(
    "federation login https://manager.example.org:8780",
    "federation login https://10.0.0.5:8780 --name lab --ca-file lab-ca.pem",
    "federation login http://127.0.0.1:8780 --token-file token",
    "federation token create ci --role operator | federation login https://manager.example.org:8780",
)


@click.command(epilog=_EXAMPLES)
@click.argument("url")
@click.option("--name", metavar="CONTEXT", help="Name of the context; the URL's host if not given.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="File whose first line is the token, - for standard input; asked for if not given.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the authorities to trust; the system's if not given.",
)
@click.option("--plain", is_flag=True, help="Allow a URL of another machine without TLS.")
@pass_session
def login(
    session: Session,
    /,
    url: str,
    name: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    plain: bool,  # noqa: FBT001 (click's flag)
) -> None:
    """Log in to a manager's REST API and keep it as a context.

    The token is tried on the manager first; nothing is kept if it is refused. It is never an argument, which every
    process of the machine can read: it is asked for, or read from a file or from standard input.
    """
    if session.flags.context or session.flags.broker:
        raise click.UsageError("login says itself which manager is meant: leave out --context and --broker")
    try:
        address = check_url(url, plain=plain)
        name = check_name(name or urlsplit(address).hostname or "")
        authorities = None if ca_file is None else str(ca_file.absolute())
        context = Context(url=address, token=_token(token_file), ca_file=authorities)
        facts = _tried(session, context)
        with changing(session.contexts_path) as held:
            _keep(held, name, context)
    except ContextError as error:
        raise click.UsageError(str(error)) from error
    if not session.is_table:
        session.emit({"context": name, "url": address, "token": facts})
        return
    session.messages.print(f"logged in to {address}, context {name}{_good_for(facts)}", markup=False)
    if (variable := shadowed_by(session.environment)) is not None:
        session.messages.print(f"{variable} is set and goes before the current context", markup=False)


def _token(file: Path | None) -> str:
    """The token's text; raises ContextError for one that no header can carry."""
    if file is None and sys.stdin.isatty():
        text = click.prompt("Token", hide_input=True, err=True)
    else:
        with click.open_file(str(file or "-"), encoding="utf-8", errors="replace") as lines:
            text = lines.readline(_LONGEST_TOKEN)
    token = str(text).strip()
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise ContextError("what was given is no token; federation token create makes one, fed_… in one line")
    return token


def _tried(session: Session, context: Context) -> dict[str, Any] | None:
    """What the token is good for, None where the manager is too old to say; ends the command where it is refused."""
    from federation.cli.rest_way import RestWay

    with telling():
        way = RestWay(context, session.timeout)
        try:
            try:
                facts: dict[str, Any] = way.ask("own_token", {})
            except Problem as problem:
                if problem.code != "not_served":
                    raise
                way.ask("contract", {})
                return None
            return facts
        finally:
            way.close()


def _keep(held: list[Any], name: str, context: Context) -> None:
    known = held[0]
    before = known.contexts.get(name)
    if before is not None and before.url != context.url:
        raise ContextError(f"context {name!r} is of {before.url}; give this one another name with --name")
    held[0] = type(known)(current=name, contexts={**known.contexts, name: context})


def _good_for(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return ""
    where = ", ".join(facts["clusters"]) if facts["clusters"] else "all clusters"
    return f": {facts['role']} of {where} until {moment(facts['expires_at'])} UTC, token {facts['name']}"
