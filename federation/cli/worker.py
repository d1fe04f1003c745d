"""``federation worker``: the process that drives a cluster's hypervisors; and those that run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from federation.cli.completing import complete_workers
from federation.cli.declared import OF_CLUSTER
from federation.cli.examples import examples
from federation.cli.rendering import age, show_list
from federation.cli.session import Session, pass_session


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "federation worker --driver libvirt --cluster lab --driver-config libvirt.toml",
        "federation worker --driver simulated --cluster lab --id lab-1",
    ),
)
@click.option("--driver", help="Name of an installed driver, such as libvirt.")
@click.option("--cluster", help="The cluster that it drives.")
@click.option("--id", "worker_id", help="Name of this worker; keeps its partitions over restarts.")
@click.option(
    "--driver-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML with a [driver] table."
)
@click.option("--max-operations", type=click.IntRange(1, 1024), help="Operations that run side by side.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics there, such as 127.0.0.1:9181.")
@click.pass_context
def worker(
    ctx: click.Context,
    driver: str | None,
    cluster: str | None,
    worker_id: str | None,
    driver_config: Path | None,
    max_operations: int | None,
    metrics: str | None,
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
    from federation.bootstrap.memory import settle_memory
    from federation.bootstrap.metrics import serve_worker_metrics
    from federation.bootstrap.workers import default_worker_id, prepare_worker
    from federation.cli.metrics import metrics_settings, serving_metrics
    from federation.cli.traces import sending_traces
    from federation.worker.errors import WorkerError
    from federation.worker.settings import WorkerSettings

    session: Session = ctx.obj
    session.check_installation()
    group = session.conf.worker
    try:
        settings = WorkerSettings(
            worker=worker_id or group.id or default_worker_id(cluster),
            cluster=cluster,
            max_operations=max_operations or group.max_operations,
            drain_timeout=group.drain_timeout,
            stuck_after=group.stuck_after,
            confined=group.confined,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    scraped = metrics_settings(session.conf, metrics or group.metrics)
    try:
        with sending_traces(session.conf, "federation-worker", settings.worker):
            running = prepare_worker(session.conf.broker, driver, driver_config, settings)
            settle_memory()
            with serving_metrics(session, scraped, lambda where: serve_worker_metrics(running, where)):
                code = running.run(
                    on_ready=lambda: session.messages.print(f"worker {settings.worker} is ready", markup=False)
                )
    except WorkerError as error:
        raise click.ClickException(str(error)) from error
    ctx.exit(code)


@worker.command("list", epilog=examples("federation worker list", "federation worker list --cluster lab --all"))
@OF_CLUSTER
@click.option("--all", "everyone", is_flag=True, help="Those that left or were lost, too.")
@pass_session
def list_workers(session: Session, /, cluster: str | None, everyone: bool) -> None:  # noqa: FBT001 (click's flag)
    """List workers."""
    records = session.ask("workers", cluster=cluster)
    if not everyone:
        records = [record for record in records if record["state"] in {"admitted", "draining"} or _waits(record)]
    now = time.time()
    columns = {
        "WORKER": lambda w: w["id"],
        "CLUSTER": lambda w: w["cluster"],
        "STATE": lambda w: "waiting" if _waits(w) else w["state"],
        "DRIVER": lambda w: f"{w['driver']} {w['driver_version']}",
        "CONTRACT": lambda w: f"{w['release_lowest']} to {w['release_highest']}",
        "RUNNING": lambda w: f"{w['load'].get('running', 0):g}",
        "HELD": lambda w: f"{w['load'].get('held', 0):g}",
        "BUGS": lambda w: f"{w['load'].get('driver_bugs', 0):g}",
        "HOST": lambda w: f"{w['host']}:{w['pid']}",
        "SEEN": lambda w: age(w["last_seen"], now),
    }
    show_list(session, records, columns, "no workers; start one: federation worker --driver DRIVER --cluster CLUSTER")


def _waits(record: Mapping[str, Any]) -> bool:
    """Whether it waits to be admitted; a manager from before there was such a thing does not say."""
    return record.get("waiting_since") is not None


@worker.command("drain", epilog=examples("federation worker drain lab-1"))
@click.argument("worker_id", metavar="WORKER", shell_complete=complete_workers)
@pass_session
def drain(session: Session, /, worker_id: str) -> None:
    """Ask a worker to finish what it runs and leave; what waits goes to the cluster's other workers.

    It ends by itself, with status 0. Its supervisor has to know that it shall not be started again.
    """
    record = session.ask("drain_worker", worker=worker_id)
    session.messages.print(
        f"worker {record['id']}: {record['state']}; it learns of it by its next heartbeat", markup=False
    )
