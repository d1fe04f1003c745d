"""``federation broker``: a broker user for every manager and every worker, each confined to what it needs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from federation.bootstrap import access
from federation.bus.errors import BusError
from federation.bus.provisioning import Step
from federation.cli.examples import examples
from federation.cli.rendering import moment, show_list
from federation.cli.session import Session, pass_session

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def broker() -> None:
    """Make and remove broker users that may do exactly what their worker or manager needs.

    The operator's way to the broker is the URL in FEDERATION_MANAGEMENT_URL, or in the file that
    FEDERATION_MANAGEMENT_URL_FILE names; without the management plugin, --print shows what to tell rabbitmqctl.
    """


def _how(command: _Command) -> _Command:
    printed = click.option(
        "--print", "print_only", is_flag=True, help="Show the rabbitmqctl commands instead of using the management API."
    )
    return printed(command)


def _where(command: _Command) -> _Command:
    file = click.option(
        "--url-file",
        type=click.Path(dir_okay=False, path_type=Path),
        required=True,
        help="Where to write the broker URL with the new password; for FEDERATION_BROKER_FILE.",
    )
    return file(command)


@broker.command(
    "provision",
    epilog=examples(
        "FEDERATION_MANAGEMENT_URL_FILE=admin-url federation broker provision --manager m-1 --url-file m-1.url"
    ),
)
@click.option(
    "--manager", "manager_id", required=True, metavar="ID", help="The manager's --id; it cannot be left out then."
)
@_where
@_how
@pass_session
def provision(session: Session, /, manager_id: str, url_file: Path, print_only: bool) -> None:  # noqa: FBT001 (click)
    """Make the virtual host, if it is not there, and a manager's user; again: a new password."""
    login = _made(lambda: access.manager_login(session.conf.broker, manager_id))
    _write_secret(url_file, login.url)
    _do(session, login.steps, print_only=print_only)
    session.messages.print(
        f"manager {manager_id}: user {login.user}; next: FEDERATION_BROKER_FILE={url_file} federation manager "
        f"--id {manager_id}",
        markup=False,
    )


@broker.command(
    "grant",
    epilog=examples(
        "federation broker grant lab lab-1 --url-file lab-1.url",
        "federation broker grant lab lab-1 --url-file lab-1.url --print",
    ),
)
@click.argument("cluster")
@click.argument("worker")
@_where
@_how
@pass_session
def grant(session: Session, /, cluster: str, worker: str, url_file: Path, print_only: bool) -> None:  # noqa: FBT001 (click)
    """Make a worker's user and let it speak for this worker; again: a new password.

    From a cluster's first grant on, managers drop what anybody without a grant says in its workers' names.
    """
    login = _made(lambda: access.worker_login(session.conf.broker, cluster, worker))
    session.ask("grant_worker", cluster=cluster, worker=worker, user=login.user)
    _write_secret(url_file, login.url)
    _do(session, login.steps, print_only=print_only)
    session.messages.print(
        f"worker {worker} of cluster {cluster}: user {login.user}; next: FEDERATION_BROKER_FILE={url_file} "
        f"FEDERATION_WORKER_CONFINED=true federation worker --cluster {cluster} --id {worker} --driver DRIVER",
        markup=False,
    )


@broker.command("revoke", epilog=examples("federation broker revoke lab lab-1"))
@click.argument("cluster")
@click.argument("worker")
@_how
@pass_session
def revoke(session: Session, /, cluster: str, worker: str, print_only: bool) -> None:  # noqa: FBT001 (click)
    """Let nobody speak for a worker any more, and remove its user from the broker."""
    for record in session.ask("revoke_worker", cluster=cluster, worker=worker):
        _do(session, access.removal(record["user"]), print_only=print_only)
        session.messages.print(f"revoked {record['user']}", markup=False)


@broker.command("grants", epilog=examples("federation broker grants --cluster lab"))
@click.option("--cluster", help="Only this cluster's.")
@pass_session
def grants(session: Session, /, cluster: str | None) -> None:
    """List which broker user speaks for which worker."""
    columns = {
        "USER": lambda g: g["user"],
        "CLUSTER": lambda g: g["cluster"],
        "WORKER": lambda g: g["worker"],
        "GRANTED": lambda g: moment(g["granted_at"]),
        "REVOKED": lambda g: "" if g["revoked_at"] is None else moment(g["revoked_at"]),
    }
    records = session.ask("worker_grants", cluster=cluster)
    show_list(session, records, columns, "no grants: every broker user is trusted; federation broker grant --help")


def _made(make: Callable[[], access.Login]) -> access.Login:
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _do(session: Session, steps: Sequence[Step], *, print_only: bool) -> None:
    if print_only:
        for step in steps:
            click.echo(step.command)
        return
    group = session.conf.management
    if group.url is None:
        message = "FEDERATION_MANAGEMENT_URL (or FEDERATION_MANAGEMENT_URL_FILE) is not set; or use --print"
        raise click.UsageError(message)
    try:
        access.carry_out(steps, group.url, group.ca_file)
    except BusError as error:
        message = f"{error}; what was begun is finished by the same command again"
        raise click.ClickException(message) from error


def _write_secret(path: Path, text: str) -> None:
    """Written beside and renamed, readable by its owner only: nobody ever reads a half of it."""
    try:
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            Path(beside).replace(path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                Path(beside).unlink()
            raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise click.ClickException(message) from error
