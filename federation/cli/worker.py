"""``federation worker``: the process that drives a cluster's hypervisors; and those that run."""

from __future__ import annotations

import time
from pathlib import Path

import click

from federation.bootstrap.workers import default_worker_id, prepare_worker
from federation.cli.rendering import age, show_list
from federation.cli.session import Session, pass_session
from federation.worker.errors import WorkerError
from federation.worker.settings import WorkerSettings


@click.group(invoke_without_command=True)
@click.option("--driver", help="Name of an installed driver, such as libvirt.")
@click.option("--cluster", help="The cluster that it drives.")
@click.option("--id", "worker_id", help="Name of this worker; keeps its partitions over restarts.")
@click.option(
    "--driver-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML with a [driver] table."
)
@click.option("--max-operations", type=click.IntRange(1, 1024), help="Operations that run side by side.")
@click.pass_context
def worker(
    ctx: click.Context,
    driver: str | None,
    cluster: str | None,
    worker_id: str | None,
    driver_config: Path | None,
    max_operations: int | None,
) -> None:
    """Run a driver worker for a cluster, or list workers.

    SIGTERM or Ctrl-C drains it: what runs is finished, what waits goes to the other workers.
    A second signal ends it at once; what ran is recovered by another worker.
    """
    if ctx.invoked_subcommand is not None:
        return
    if driver is None or cluster is None:
        message = "--driver and --cluster are needed to run a worker; federation worker list shows those that run"
        raise click.UsageError(message)
    session: Session = ctx.obj
    group = session.conf.worker
    try:
        settings = WorkerSettings(
            worker=worker_id or group.id or default_worker_id(cluster),
            cluster=cluster,
            max_operations=max_operations or group.max_operations,
            drain_timeout=group.drain_timeout,
            stuck_after=group.stuck_after,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        running = prepare_worker(session.conf.broker, driver, driver_config, settings)
        code = running.run(on_ready=lambda: session.messages.print(f"worker {settings.worker} is ready", markup=False))
    except WorkerError as error:
        raise click.ClickException(str(error)) from error
    ctx.exit(code)


@worker.command("list")
@click.option("--cluster", help="Only this cluster's.")
@click.option("--all", "everyone", is_flag=True, help="Those that left or were lost, too.")
@pass_session
def list_workers(session: Session, /, cluster: str | None, everyone: bool) -> None:  # noqa: FBT001 (click's flag)
    """List workers."""
    records = session.ask("workers", cluster=cluster)
    if not everyone:
        records = [record for record in records if record["state"] in {"admitted", "draining"}]
    now = time.time()
    columns = {
        "WORKER": lambda w: w["id"],
        "CLUSTER": lambda w: w["cluster"],
        "STATE": lambda w: w["state"],
        "DRIVER": lambda w: f"{w['driver']} {w['driver_version']}",
        "CONTRACT": lambda w: f"{w['release_lowest']} to {w['release_highest']}",
        "RUNNING": lambda w: f"{w['load'].get('running', 0):g}",
        "HELD": lambda w: f"{w['load'].get('held', 0):g}",
        "HOST": lambda w: f"{w['host']}:{w['pid']}",
        "SEEN": lambda w: age(w["last_seen"], now),
    }
    show_list(session, records, columns, "no workers; start one: federation worker --driver DRIVER --cluster CLUSTER")


@worker.command("drain")
@click.argument("worker_id", metavar="WORKER")
@pass_session
def drain(session: Session, /, worker_id: str) -> None:
    """Ask a worker to finish what it runs and leave."""
    record = session.ask("drain_worker", worker=worker_id)
    session.messages.print(
        f"worker {record['id']}: {record['state']}; it learns of it by its next heartbeat", markup=False
    )
