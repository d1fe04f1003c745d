"""``federation manager``: the process that accepts, publishes and answers."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from federation.cli.examples import examples
from federation.cli.session import Session, pass_session

if TYPE_CHECKING:
    from oslo_config import cfg

    from federation.bootstrap.interfaces import InterfaceSettings
    from federation.bootstrap.managers import RunningManager
    from federation.manager.settings import ManagerSettings
    from federation.observe.serving import Endpoint, EndpointSettings

_API_STOP_SECONDS = 10.0


@click.command(
    epilog=examples(
        "federation manager",
        "federation manager --api 127.0.0.1:8780",
        "FEDERATION_MANAGER_STORE_FILE=store-url federation manager --id manager-2",
    )
)
@click.option(
    "--store", metavar="URL", help="SQLAlchemy URL of the store; FEDERATION_MANAGER_STORE keeps it out of sight."
)
@click.option("--id", "manager_id", help="Name among the managers of the store.")
@click.option("--trust-users", is_flag=True, help="Let every broker user speak for every worker, granted or not.")
@click.option("--api", metavar="HOST:PORT", help="Serve the REST API there, such as 127.0.0.1:8780.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics there, such as 127.0.0.1:9180.")
@pass_session
def manager(
    session: Session,
    /,
    store: str | None,
    manager_id: str | None,
    trust_users: bool,  # noqa: FBT001 (click)
    api: str | None,
    metrics: str | None,
) -> None:
    """Run a manager until SIGTERM or Ctrl-C.

    Several may run on one PostgreSQL store. With --api it serves the REST API, too.
    """
    from federation.bootstrap.managers import run_manager
    from federation.cli.metrics import metrics_settings, serving_metrics
    from federation.cli.traces import sending_traces
    from federation.config import DEFAULT_STORE, default_store

    session.check_installation()
    conf = session.conf
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it starts, both signals interrupt it
    url, rest = store or conf.manager.store, _rest_settings(conf, api)
    scraped = metrics_settings(conf, metrics or conf.manager.metrics)
    if url == default_store():
        DEFAULT_STORE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = manager_settings(conf, manager_id, trust_users=trust_users)
    with sending_traces(conf, "federation-manager", settings.id):
        running = run_manager(conf.broker, url, settings)
        try:
            with serving_metrics(session, scraped, lambda where: _metrics(conf, running, where)):
                _serve(session, running, rest)
        finally:
            running.stop()


def _serve(session: Session, running: RunningManager, rest: InterfaceSettings | None) -> None:
    """Until a signal; the REST API ends before what it stands on."""
    from federation.bootstrap.interfaces import REST, InterfaceError, start_interface
    from federation.bootstrap.memory import settle_memory

    try:
        interface = None if rest is None else start_interface(REST, running, rest)
    except InterfaceError as error:
        raise click.ClickException(str(error)) from error
    settle_memory()
    stopped = _until_signalled()
    if interface is not None:
        session.messages.print(f"REST API on {interface.address}", markup=False)
    session.messages.print(f"manager {running.manager.settings.id} is ready", markup=False)
    stopped.wait()
    session.messages.print("stopping", markup=False)
    if interface is not None:
        interface.stop(_API_STOP_SECONDS)


def _metrics(conf: cfg.ConfigOpts, running: RunningManager, settings: EndpointSettings) -> Endpoint:
    """The broker's management API, where there is one, tells more."""
    from federation.bootstrap.metrics import ManagementSettings, serve_manager_metrics

    management = None
    if conf.management.url:
        management = ManagementSettings(
            broker_url=conf.broker, url=conf.management.url, ca_file=conf.management.ca_file
        )
    return serve_manager_metrics(running, settings, management)


def _rest_settings(conf: cfg.ConfigOpts, listen: str | None) -> InterfaceSettings | None:
    """Where the REST API is served, None where it is not; refuses what cannot be before anything starts."""
    from federation.bootstrap.interfaces import InterfaceError, InterfaceSettings, check_settings, read_address

    group = conf.api
    address = listen or group.listen
    if not address:
        return None
    try:
        host, port = read_address(address)
        settings = InterfaceSettings(
            host=host,
            port=port,
            certificate=Path(group.certificate) if group.certificate else None,
            private_key=Path(group.private_key) if group.private_key else None,
            plain=group.plain,
        )
        check_settings(settings)
    except InterfaceError as error:
        raise click.UsageError(str(error)) from error
    return settings


def manager_settings(
    conf: cfg.ConfigOpts, manager_id: str | None = None, *, trust_users: bool = False
) -> ManagerSettings:
    """The manager's numbers from the options."""
    from federation.manager.settings import ManagerSettings
    from federation.protocol.answer_table import Limits
    from federation.protocol.lease import LeaseTerms

    group = conf.manager
    settings: dict[str, object] = {
        "limits": Limits(grants=group.grants, terms=LeaseTerms(group.lease, group.margin)),
        "sweep_after": group.sweep_after,
        "worker_timeout": group.worker_timeout,
        "nodes_every": group.nodes_every,
        "keep_days": group.keep_days,
        "keep_operations": group.keep_operations,
        "audit_days": group.audit_days,
        "prefetch": group.prefetch,
        "default_partitions": group.partitions,
        "trust_users": group.trust_users or trust_users,
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
