"""``federation driver``: for those who write drivers."""

from __future__ import annotations

from pathlib import Path

import click

from federation.cli.driver_new_package import CannotWrite, NewDriver
from federation.cli.examples import examples
from federation.cli.session import Session, pass_session


@click.group()
def driver() -> None:
    """Write a driver."""


@driver.command("new", epilog=examples("federation driver new proxmox", "federation driver new proxmox --path ."))
@click.argument("name")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to write; federation-driver-NAME below the current one by default.",
)
@pass_session
def new(session: Session, /, name: str, path: Path | None) -> None:
    """Write the package of a new driver: NAME is what operators type after --driver.

    It installs, passes lint and types, and starts under `federation worker`. What asks the hypervisor is yours to write:
    until then every operation ends with hypervisor_refused and says which method is missing.
    """
    try:
        planned = NewDriver(name)
        folder = path or Path(planned.distribution)
        written = planned.write(folder)
    except CannotWrite as error:
        raise click.ClickException(str(error)) from error
    record = {"driver": name, "folder": str(folder), "files": [str(file) for file in written]}
    if not session.is_table:
        session.emit(record)
        return
    for file in written:
        session.console.print(str(folder / file), markup=False)
    session.messages.print(
        f"Write {folder / planned.package / 'connection.py'} next; {folder / 'README.md'} says how to try it.",
        markup=False,
    )
