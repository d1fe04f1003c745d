"""``federation cluster``, ``node`` and ``contract``."""

from __future__ import annotations

import json
import time
from operator import itemgetter

import click

from federation.cli.rendering import age, moment, show_list, show_record, size
from federation.cli.session import CatalogueFailure, Session, pass_session
from federation.contract.errors import NotFound
from federation.contract.release import snapshot


@click.group()
def cluster() -> None:
    """Make, look at and remove clusters."""


@cluster.command("create")
@click.argument("name")
@click.option("--driver", required=True, help="The driver that drives it, such as libvirt.")
@click.option("--partitions", type=click.IntRange(1, 1024), help="Ordered queues; the manager's default if not given.")
@pass_session
def create(session: Session, /, name: str, driver: str, partitions: int | None) -> None:
    """Make a cluster and its queues."""
    record = session.ask("create_cluster", cluster=name, driver=driver, partitions=partitions)
    show_record(session, record, {key: itemgetter(key) for key in ("name", "driver", "partitions", "epoch")})
    if session.output != "json":
        session.messages.print(f"next: federation worker --driver {driver} --cluster {name}", markup=False)


@cluster.command("list")
@pass_session
def list_(session: Session, /) -> None:
    """List clusters with their operations."""
    counts = session.ask("counts")
    workers = session.ask("workers")
    records = [
        {
            **record,
            "operations": counts.get(record["name"], {}),
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
    }
    show_list(session, records, columns, "no clusters; make one: federation cluster create NAME --driver DRIVER")


@cluster.command("show")
@click.argument("name")
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
    }
    show_record(session, record, facts)


@cluster.command("remove")
@click.argument("name")
@click.confirmation_option(prompt="Remove the cluster and its queues?")
@pass_session
def remove(session: Session, /, name: str) -> None:
    """Remove an empty cluster and its queues."""
    session.ask("remove_cluster", cluster=name)
    session.messages.print(f"removed cluster {name}", markup=False)


@click.group()
def node() -> None:
    """Look at nodes."""


@node.command("list")
@click.option("--cluster", help="Only this cluster's.")
@click.option("--refresh", is_flag=True, help="Ask the workers now; needs --cluster.")
@pass_session
def list_nodes(session: Session, /, cluster: str | None, refresh: bool) -> None:  # noqa: FBT001 (click's flag)
    """List nodes with what they have and what is in use."""
    if refresh:
        if cluster is None:
            message = "--refresh needs --cluster"
            raise click.UsageError(message)
        session.ask("refresh_cluster", cluster=cluster)
    now = time.time()
    columns = {
        "NODE": lambda n: n["name"],
        "CLUSTER": lambda n: n["cluster"],
        "REACHABLE": lambda n: "yes" if n["facts"]["reachable"] else f"no: {n['facts']['message']}",
        "HYPERVISOR": lambda n: n["facts"]["hypervisor"],
        "VCPUS": lambda n: f"{n['facts']['vcpus_used']}/{n['facts']['vcpus_total']}",
        "MEMORY": lambda n: f"{size(n['facts']['memory_bytes_used'])}/{size(n['facts']['memory_bytes_total'])}",
        "STORAGE": lambda n: f"{size(n['facts']['storage_bytes_used'])}/{size(n['facts']['storage_bytes_total'])}",
        "INSTANCES": lambda n: n["facts"]["instances"],
        "SEEN": lambda n: age(n["seen_at"], now),
    }
    show_list(session, session.ask("nodes", cluster=cluster), columns, "no nodes known; is a worker running?")


@click.group()
def contract() -> None:
    """Look at the driver contract."""


@contract.command("show")
@click.option("--json", "as_json", is_flag=True, help="The whole contract as data.")
@pass_session
def show_contract(session: Session, /, as_json: bool) -> None:  # noqa: FBT001 (click's flag)
    """Show the operations of the contract that this release speaks."""
    data = snapshot()
    if as_json or session.output == "json":
        click.echo(json.dumps(data, indent=2, default=str))
        return
    columns = {
        "OPERATION": lambda o: o["name"],
        "REV": lambda o: o["revision"],
        "LANE": lambda o: o["lane"],
        "REQUEST": lambda o: o["request"],
        "RESULT": lambda o: o["result"],
        "CAPABILITY": lambda o: o["capability"],
        "CONVERGENCE": lambda o: o["convergence"],
    }
    session.console.print(f"contract release {data['release']} ({data['status']})")
    show_list(session, data["operations"], columns, "none")  # type: ignore[arg-type]  # a list of tables
