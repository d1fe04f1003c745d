"""``federation``: the root of the command line."""

from __future__ import annotations

import ast
import importlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from federation.cli.completing import complete_contexts
from federation.cli.log_lines import LineFormatter
from federation.cli.session import EXIT_FAILED, EXIT_UNREACHED, OUTPUTS, CatalogueFailure, Flags, Session, StartFailure
from federation.contract.errors import OperationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from click.shell_completion import CompletionItem

_PLUGINS = "federation.commands"

_COMMANDS = {
    "login": ("federation.cli.login", "Log in to a manager's REST API and keep it as a context."),
    "context": ("federation.cli.contexts", "See and choose the managers that you are logged in to."),
    "instance": ("federation.cli.instances", "Create, look at and operate instances."),
    "operation": ("federation.cli.operations", "Look at, follow and cancel operations."),
    "cluster": ("federation.cli.clusters", "Make, look at and remove clusters."),
    "node": ("federation.cli.nodes", "Look at nodes and operate them."),
    "worker": ("federation.cli.worker", "Run a driver worker for a cluster, or list workers."),
    "top": (
        "federation.cli.top",
        "Show what waits, runs and fails: clusters, partitions and who works on them, workers, operations in flight.",
    ),
    "manager": ("federation.cli.manager", "Run a manager until SIGTERM or Ctrl-C."),
    "token": ("federation.cli.tokens", "Make, list and revoke the tokens of the REST interface."),
    "broker": (
        "federation.cli.broker",
        "Make and remove broker users that may do exactly what their worker or manager needs.",
    ),
    "audit": ("federation.cli.audit", "See who asked for what."),
    "contract": ("federation.cli.contract", "Look at the driver contract, and check how it changes."),
    "driver": ("federation.cli.driver_new", "Write a driver."),
    "backup": (
        "federation.cli.store",
        "Write everything that the managers keep into one file, while they go on.",
    ),
    "store": (
        "federation.cli.store",
        "See which release the store's tables are of, and take them back to an older one.",
    ),
    "restore": (
        "federation.cli.store",
        "Load a backup into an empty store, or with --force into any that no manager works on.",
    ),
    "doctor": (
        "federation.cli.doctor",
        "Look at broker, queues, store, drivers, manager, workers and nodes, and say what is wrong.",
    ),
    "completion": (
        "federation.cli.completion",
        "Write what makes a shell complete commands, options, and names of instances, clusters, nodes, workers and contexts.",
    ),
}
"""Module and first line of each command: `federation --help` shows it without loading them (a test compares)."""
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
            found: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        elif (plugin := _plugins().get(cmd_name)) is not None:
            found = plugin.load()
        else:
            return None
        _take_output(found)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands by name, without loading them."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, text in _summaries() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by name, without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(_summaries())


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=_PLUGINS)}


def _summaries() -> list[tuple[str, str]]:
    ours = [(name, summary) for name, (_, summary) in _COMMANDS.items()]
    return [*ours, *((name, _summary(point)) for name, point in sorted(_plugins().items()))]


def _summary(point: EntryPoint) -> str:
    """The first sentence of a plugin's help, read from its source: to load them all takes seconds."""
    from importlib.util import find_spec

    spec = find_spec(point.module)
    try:
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec is not None and spec.origin else None
    except (OSError, SyntaxError, ValueError):
        tree = None
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _take_output(command: click.Command) -> None:
    """Let ``--output`` stand behind the command, too, wherever that does not have one of its own."""
    for found in command.commands.values() if isinstance(command, click.Group) else ():
        _take_output(found)
    taken = {option for parameter in command.params for option in parameter.opts}
    if isinstance(command, click.Group) or taken & {"--output", "-o"}:
        return
    command.params.append(
        click.Option(
            ["--output", "-o"],
            type=click.Choice(OUTPUTS),
            expose_value=False,
            callback=_set_output,
            help="How results are written; also before the command.",
        )
    )


def _set_output(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    session = ctx.find_object(Session)
    if value is not None and session is not None:
        session.output = value


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="driver-federation", prog_name="federation")
@click.option(
    "--context",
    metavar="NAME",
    shell_complete=complete_contexts,
    help="Which manager, of those that `federation login` knows; or local.",
)
@click.option(
    "--broker",
    metavar="URL",
    help="Go over this broker; FEDERATION_BROKER or FEDERATION_BROKER_FILE keep it out of sight.",
)
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="Configuration file.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="How long to wait for the broker, and for the manager's answer.",
)
@click.option("--output", "-o", type=click.Choice(OUTPUTS), default="table", show_default=True)
@click.option("--verbose", "-v", count=True, help="Say more on standard error; twice for everything.")
@click.pass_context
def root(
    ctx: click.Context,
    context: str | None,
    broker: str | None,
    config_file: Path | None,
    timeout: float | None,
    output: str,
    verbose: int,
) -> None:
    """Operate virtual machines on any hypervisor, through drivers on a message bus.

    \b
    First steps, with a manager that somebody runs:
      federation login https://manager:8780                log in with a token
      federation instance create web-1 --cluster lab ...   make a machine
    First steps, on a machine of your own with a broker:
      federation manager                                   run a manager
      federation cluster create lab --driver libvirt       say what it manages
      federation worker --driver libvirt --cluster lab     run a driver worker
      federation doctor                                    see what is wrong
    """  # noqa: D301 (click's marker for text that is not rewrapped)
    _log(verbose, long_running=ctx.invoked_subcommand in _LONG_RUNNING)
    ctx.obj = Session(Flags(config_file, broker, context, timeout), output)
    ctx.call_on_close(ctx.obj.close)


def _log(verbose: int, *, long_running: bool) -> None:
    levels = {0: logging.WARNING, 1: logging.INFO}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=levels.get(verbose, logging.DEBUG), handlers=[handler])
    if verbose < 2:  # noqa: PLR2004 (the second -v)
        chatty = ("oslo_messaging", "oslo.messaging", "amqp", "kombu", "stevedore", "alembic", "httpx", "httpcore")
        for name in chatty:
            logging.getLogger(name).setLevel(logging.ERROR)
    if not verbose and not long_running:
        logging.getLogger("federation").setLevel(logging.ERROR)


def main() -> None:
    """The console script."""
    try:
        root(standalone_mode=True)
    except OperationError as error:
        failure: click.ClickException = CatalogueFailure(error)
    except Exception as error:
        found = _start_failure(error)
        if found is None:
            raise
        failure = found
    failure.show()
    sys.exit(failure.exit_code)


def _start_failure(error: Exception) -> StartFailure | None:
    """What a command does not translate itself; its classes are loaded only where something failed."""
    from federation.bus.errors import BusError, BusTimeout, BusUnavailable
    from federation.protocol.errors import StoreUnavailable
    from federation.store import StoreError
    from federation.worker.errors import Unavailable, WorkerError

    if isinstance(error, BusUnavailable | BusTimeout | Unavailable):
        move = "check --broker or FEDERATION_BROKER; or go through a manager's REST API: federation login URL"
        return StartFailure(str(error), EXIT_UNREACHED, move)
    if isinstance(error, StoreUnavailable):
        return StartFailure(str(error), EXIT_UNREACHED, "check --store or FEDERATION_MANAGER_STORE, and its server")
    if isinstance(error, BusError | StoreError | WorkerError):
        return StartFailure(str(error), EXIT_FAILED)
    return None
