"""``federation cluster``: make, look at and remove clusters."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import click

from federation.cli.completing import complete_clusters
from federation.cli.epochs import repartition, republish
from federation.cli.examples import examples
from federation.cli.rendering import moment, show_list, show_record
from federation.cli.session import EXIT_FAILED, CatalogueFailure, Session, pass_session
from federation.contract.errors import NotFound

_NAME = click.argument("name", shell_complete=complete_clusters)


@click.group()
def cluster() -> None:
    """Make, look at and remove clusters."""


@cluster.command(
    "create",
    epilog=examples(
        "federation cluster create lab --driver libvirt",
        "federation cluster create prod --driver vmware --partitions 64",
    ),
)
@click.argument("name")
@click.option("--driver", required=True, help="The driver that drives it, such as libvirt.")
@click.option("--partitions", type=click.IntRange(1, 1024), help="Ordered queues; the manager's default if not given.")
@pass_session
def create(session: Session, /, name: str, driver: str, partitions: int | None) -> None:
    """Make a cluster and its queues."""
    record = session.ask("create_cluster", cluster=name, driver=driver, partitions=partitions)
    show_record(session, record, {key: itemgetter(key) for key in ("name", "driver", "partitions", "epoch")})
    if session.is_table:
        session.messages.print(f"next: federation worker --driver {driver} --cluster {name}", markup=False)


@cluster.command("list", epilog=examples("federation cluster list", "federation cluster list -o json"))
@pass_session
def list_(session: Session, /) -> None:
    """List clusters with their operations."""
    counts = session.ask("counts")
    workers = session.ask("workers")
    backlog = {each["cluster"]: each["backlog_seconds"] for each in session.ask("figures")}
    records = [
        {
            **record,
            "operations": counts.get(record["name"], {}),
            "backlog_seconds": backlog.get(record["name"], 0.0),
            "workers": sum(w["cluster"] == record["name"] and w["state"] == "admitted" for w in workers),
        }
        for record in session.ask("clusters")
    ]
    columns = {
        "NAME": lambda c: c["name"],
        "DRIVER": lambda c: c["driver"],
        "PIN": lambda c: c["pin"],
        "PARTITIONS": lambda c: c["partitions"],
        "WORKERS": lambda c: c["workers"],
        "QUEUED": lambda c: c["operations"].get("queued", 0),
        "RUNNING": lambda c: c["operations"].get("running", 0),
        "PARKED": lambda c: c["operations"].get("parked", 0),
        "BACKLOG": lambda c: _backlog(c["backlog_seconds"]),
    }
    show_list(session, records, columns, "no clusters; make one: federation cluster create NAME --driver DRIVER")


@cluster.command("show", epilog=examples("federation cluster show lab"))
@_NAME
@pass_session
def show(session: Session, /, name: str) -> None:
    """Show one cluster with its workers and nodes."""
    record = next((c for c in session.ask("clusters") if c["name"] == name), None)
    if record is None:
        message = f"cluster {name!r} is not known; federation cluster list shows what is"
        raise CatalogueFailure(NotFound(message, field="cluster", value=name))
    record = {
        **record,
        "operations": session.ask("counts").get(name, {}),
        "figures": session.ask("figures", cluster=name)[0],
        "workers": session.ask("workers", cluster=name),
        "nodes": session.ask("nodes", cluster=name),
    }
    facts = {
        "name": lambda c: c["name"],
        "driver": lambda c: c["driver"],
        "contract": lambda c: c["pin"],
        "partitions": lambda c: c["partitions"],
        "epoch": lambda c: c["epoch"],
        "created": lambda c: moment(c["created_at"]),
        "workers": lambda c: ", ".join(f"{w['id']} ({w['state']})" for w in c["workers"]),
        "nodes": lambda c: ", ".join(n["name"] for n in c["nodes"]),
        "operations": lambda c: ", ".join(f"{count} {state}" for state, count in sorted(c["operations"].items())),
        "load": lambda c: _load(c["figures"]),
        "backlog": lambda c: _backlog(c["figures"]["backlog_seconds"]),
    }
    show_record(session, record, facts)


def _backlog(seconds: float | None) -> str:
    """What the present workers would need for what waits."""
    return "no worker" if seconds is None else f"{seconds:.1f}s"


def _load(figures: Mapping[str, Any]) -> str:
    waits = f"oldest for {figures['oldest_waiting_seconds']:.0f}s" if figures["waiting"] else "none"
    return (
        f"{figures['waiting']} waiting ({waits}), {figures['running']} running on {figures['slots']} slots, "
        f"{figures['seconds_each']:.2g}s each"
    )


@cluster.command("remove", epilog=examples("federation cluster remove lab", "federation cluster remove lab --yes"))
@_NAME
@click.confirmation_option(prompt="Remove the cluster and its queues?")
@pass_session
def remove(session: Session, /, name: str) -> None:
    """Remove an empty cluster and its queues."""
    session.ask("remove_cluster", cluster=name)
    session.messages.print(f"removed cluster {name}", markup=False)


@cluster.command("compare", epilog=examples("federation cluster compare lab", "federation cluster compare lab --write"))
@_NAME
@click.option("--write", is_flag=True, help="Write node, state and size down as they were found.")
@pass_session
def compare(session: Session, /, name: str, write: bool) -> None:  # noqa: FBT001 (click)
    """Compare what the hypervisors have with what the manager knows; nothing is changed on a hypervisor.

    Ends with status 1 when there are differences.
    """
    told = session.ask("compare_cluster", cluster=name, write=write or None)
    columns = {
        "INSTANCE": lambda d: d["instance"],
        "NAME": lambda d: d["name"],
        "DIFFERENCE": lambda d: d["kind"],
        "STORED": lambda d: d["stored"],
        "FOUND": lambda d: d["found"],
        "NEXT": lambda d: d["next_move"].replace("CLUSTER", name),
    }
    if not session.is_table:
        session.emit(told)
    else:
        show_list(session, told["differences"], columns, "no differences")
        session.messages.print(f"alike: {told['alike']}, busy and left out: {told['busy']}", markup=False)
    if told["differences"]:
        raise click.exceptions.Exit(EXIT_FAILED)


cluster.add_command(repartition)
cluster.add_command(republish)
