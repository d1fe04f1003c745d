"""``federation manager``: the process that accepts, publishes and answers."""

from __future__ import annotations

import signal
import threading

import click
from oslo_config import cfg

from federation.bootstrap.managers import run_manager
from federation.cli.session import Session, pass_session
from federation.config import DEFAULT_STORE, default_store
from federation.manager.settings import ManagerSettings
from federation.protocol.answer_table import Limits
from federation.protocol.lease import LeaseTerms


@click.command()
@click.option(
    "--store", metavar="URL", help="SQLAlchemy URL of the store; FEDERATION_MANAGER_STORE keeps it out of sight."
)
@click.option("--id", "manager_id", help="Name among the managers of the store.")
@pass_session
def manager(session: Session, /, store: str | None, manager_id: str | None) -> None:
    """Run a manager until SIGTERM or Ctrl-C.  Several may run on one PostgreSQL store."""
    conf = session.conf
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it starts, both signals interrupt it
    url = store or conf.manager.store
    if url == default_store():
        DEFAULT_STORE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    running = run_manager(conf.broker, url, manager_settings(conf, manager_id))
    stopped = _until_signalled()
    session.messages.print(f"manager {running.manager.settings.id} is ready", markup=False)
    stopped.wait()
    session.messages.print("stopping", markup=False)
    running.stop()


def manager_settings(conf: cfg.ConfigOpts, manager_id: str | None = None) -> ManagerSettings:
    """The manager's numbers from the options."""
    group = conf.manager
    settings: dict[str, object] = {
        "limits": Limits(grants=group.grants, terms=LeaseTerms(group.lease, group.margin)),
        "sweep_after": group.sweep_after,
        "worker_timeout": group.worker_timeout,
        "nodes_every": group.nodes_every,
        "prefetch": group.prefetch,
        "default_partitions": group.partitions,
    }
    name = manager_id or group.id
    if name:
        settings["id"] = name
    return ManagerSettings(**settings)  # type: ignore[arg-type]  # typed by the options above


def _until_signalled() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopped
