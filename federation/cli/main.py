"""``federation``: the root of the command line."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from pathlib import Path

import click

from federation import config
from federation.bootstrap.installation import ForeignDistribution, check_distribution
from federation.bus.errors import BusError
from federation.cli.session import BusFailure, CatalogueFailure, Session
from federation.contract.errors import OperationError
from federation.protocol.errors import StoreUnavailable
from federation.store import StoreError
from federation.worker.errors import WorkerError

_PLUGINS = "federation.commands"


_COMMANDS = {
    "manager": "federation.cli.manager",
    "worker": "federation.cli.worker",
    "cluster": "federation.cli.clusters",
    "node": "federation.cli.clusters",
    "instance": "federation.cli.instances",
    "operation": "federation.cli.operations",
    "contract": "federation.cli.clusters",
    "doctor": "federation.cli.doctor",
}
_LONG_RUNNING = {"manager", "worker"}


class _Lazy(click.Group):
    """Loads a command when it is used: our own, then those of the entry point group ``federation.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Ours in their order, then the plugins'."""
        del ctx
        return [*_COMMANDS, *sorted(_plugins())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None when there is no such command."""
        del ctx
        if cmd_name in _COMMANDS:
            found: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
            return found
        plugin = _plugins().get(cmd_name)
        return plugin.load() if plugin is not None else None


def _plugins() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=_PLUGINS)}


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="driver-federation", prog_name="federation")
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="Configuration file.")
@click.option(
    "--broker", metavar="URL", help="Broker; FEDERATION_BROKER or FEDERATION_BROKER_FILE keep it out of sight."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait for the manager's answer.")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--verbose", "-v", count=True, help="Say more on standard error; twice for everything.")
@click.pass_context
def root(
    ctx: click.Context,
    config_file: Path | None,
    broker: str | None,
    timeout: float | None,
    output: str,
    verbose: int,
) -> None:
    """Operate virtual machines on any hypervisor, through drivers on a message bus.

    \b
    First steps:
      federation manager                                   run a manager
      federation cluster create lab --driver libvirt       say what it manages
      federation worker --driver libvirt --cluster lab     run a driver worker
      federation instance create web-1 --cluster lab ...   make a machine
      federation doctor                                    see what is wrong
    """  # noqa: D301 (click's marker for text that is not rewrapped)
    levels = {0: logging.WARNING, 1: logging.INFO}
    logging.basicConfig(
        level=levels.get(verbose, logging.DEBUG),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    if verbose < 2:  # noqa: PLR2004 (the second -v)
        for chatty in ("oslo_messaging", "oslo.messaging", "amqp", "kombu", "stevedore", "alembic"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
    if not verbose and ctx.invoked_subcommand not in _LONG_RUNNING:
        logging.getLogger("federation").setLevel(logging.ERROR)
    try:
        check_distribution()
        conf = config.load(
            config_file, {("DEFAULT", "broker"): broker, ("DEFAULT", "timeout"): timeout}, config.environment()
        )
    except (config.ConfigError, ForeignDistribution) as error:
        raise click.UsageError(str(error)) from error
    ctx.obj = Session(conf, output)
    ctx.call_on_close(ctx.obj.close)


def main() -> None:
    """The console script."""
    try:
        root(standalone_mode=True)
    except (BusError, StoreUnavailable, StoreError, WorkerError) as error:
        BusFailure(str(error)).show()
        sys.exit(BusFailure.exit_code)
    except OperationError as error:
        CatalogueFailure(error).show()
        sys.exit(BusFailure.exit_code)
