"""What every command shares: the options, a way to the manager, and how to speak to the person."""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from federation.cli.choosing import Choice, choose
from federation.cli.contexts_file import ContextError, contexts_path, read_contexts
from federation.cli.exits import EXIT_FAILED, EXIT_LEFT_RUNNING, EXIT_REFUSED, EXIT_UNREACHED, EXIT_USAGE
from federation.cli.plain_text import plain
from federation.cli.problems import Problem
from federation.contract.errors import OperationError, Unavailable

if TYPE_CHECKING:
    from oslo_config import cfg
    from rich.console import Console

__all__ = [
    "EXIT_FAILED",
    "EXIT_LEFT_RUNNING",
    "EXIT_REFUSED",
    "EXIT_UNREACHED",
    "EXIT_USAGE",
    "OUTPUTS",
    "CatalogueFailure",
    "Flags",
    "Session",
    "StartFailure",
    "Way",
    "pass_session",
    "telling",
]

OUTPUTS = ("table", "json", "yaml")
DEFAULT_TIMEOUT = 15.0
"""As ``federation.config`` has it (a test compares); what speaks REST alone starts without reading any options."""
DEFAULT_FILE = Path("/etc/federation/federation.conf")
_WIDE = 400


class Way(Protocol):
    """A way to a manager's use cases, by the names of its door."""

    def ask(self, use_case: str, arguments: dict[str, Any]) -> Any:
        """Carry out a use case; raises OperationError, or another error with a code, a message and a next move."""

    def follow(self, operation: dict[str, Any], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """The operation after every change, to its outcome."""

    def close(self) -> None:
        """Let go of the manager."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What was said before the command."""

    config_file: Path | None = None
    broker: str | None = None
    context: str | None = None
    timeout: float | None = None


@dataclass
class Session:
    """One run of the command line.  What costs time to make is made when it is first needed."""

    flags: Flags = field(default_factory=Flags)
    output: str = "table"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call the manager; ends the command with a clear error when that fails."""
        given = {name: value for name, value in arguments.items() if value is not None}
        with telling():
            return self.way.ask(method, given)

    @functools.cached_property
    def way(self) -> Way:
        """The way to the manager, opened when it is first needed."""
        context = self.choice.context
        if context is not None:
            from federation.cli.rest_way import RestWay

            with telling():
                return RestWay(context, self.timeout)
        self.check_installation()
        from federation.cli.bus_way import BusWay

        return BusWay(self.conf.broker, self.conf.timeout, self.user)

    @functools.cached_property
    def choice(self) -> Choice:
        """Which way is taken, and why."""
        try:
            return choose(
                self.flags.context,
                self.flags.broker,
                self.environment,
                lambda: read_contexts(self.contexts_path),
                file_names_broker=self._file_names_broker,
            )
        except ContextError as error:
            raise click.UsageError(str(error)) from error

    @staticmethod
    def check_installation() -> None:
        """Refuse to start beside a foreign distribution that provides our package (DESIGN §4)."""
        from federation.bootstrap.installation import ForeignDistribution, check_distribution

        try:
            check_distribution()
        except ForeignDistribution as error:
            raise click.UsageError(str(error)) from error

    @property
    def contexts_path(self) -> Path:
        """Where logins are kept."""
        return contexts_path(self.environment)

    @functools.cached_property
    def conf(self) -> cfg.ConfigOpts:
        """The options; ends the command where they cannot be read."""
        from federation import config

        said = {("DEFAULT", "broker"): self.flags.broker, ("DEFAULT", "timeout"): self.flags.timeout}
        try:
            return config.load(self.flags.config_file, said, self.environment)
        except config.ConfigError as error:
            raise click.UsageError(str(error)) from error

    @property
    def timeout(self) -> float:
        """Seconds to wait for one answer."""
        if self.flags.timeout is not None:
            return self.flags.timeout
        told = any(name in self.environment for name in ("FEDERATION_TIMEOUT", "FEDERATION_TIMEOUT_FILE"))
        if told or self.flags.config_file or DEFAULT_FILE.exists():
            return float(self.conf.timeout)
        return DEFAULT_TIMEOUT

    @functools.cached_property
    def console(self) -> Console:
        """Standard output."""
        from rich.console import Console

        return Console(highlight=False, width=_width())

    @functools.cached_property
    def messages(self) -> Console:
        """Standard error."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at standard output now."""
        return sys.stdout.isatty()

    @property
    def is_table(self) -> bool:
        """Whether people read standard output, and not programs."""
        return self.output == "table"

    def emit(self, data: Any) -> None:
        """Data for programs, as JSON or YAML."""
        if self.output == "yaml":
            click.echo(_as_yaml(data), nl=False)
            return
        text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
        if sys.stdout.isatty():
            self.console.print_json(text)
        else:
            click.echo(text)

    @property
    def user(self) -> str:
        """Who asks, for the manager's records."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return f"uid {os.getuid()}"

    def close(self) -> None:
        """Let go of the manager."""
        way: Way | None = self.__dict__.pop("way", None)
        if way is not None:
            way.close()

    def _file_names_broker(self) -> bool:
        """Whether the file of ``--config`` says which broker; that of the machine is for who has no context."""
        if self.flags.config_file is None:
            return False
        from oslo_config import cfg

        location = self.conf.get_location("broker")
        return location is not None and location.location is cfg.Locations.user


class CatalogueFailure(click.ClickException):
    """An error of the catalogue, or one that looks like it, ends the command: code, message, field, next move."""

    exit_code: int  # type: ignore[misc]  # click's is the class's; here the error decides

    def __init__(self, error: OperationError | Problem) -> None:
        super().__init__(error.message)
        self.error = error
        usual = EXIT_UNREACHED if error.code == Unavailable.code else EXIT_REFUSED
        self.exit_code: int = getattr(error, "exit_code", usual)

    def show(self, file: Any = None) -> None:
        """Say it on standard error."""
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, highlight=False, file=file)
        console.print(
            Text.assemble(("error", "bold red"), f" {self.error.code}: {plain(self.error.message)}"), soft_wrap=True
        )
        for name in ("field", "request"):
            if self.error.detail.get(name):
                console.print(Text(f"  {name}: {plain(self.error.detail[name])}"), soft_wrap=True)
        console.print(Text(f"  next: {plain(self.error.next_move)}"), soft_wrap=True)


class StartFailure(click.ClickException):
    """Broker or store could not be used; ``move`` is what to do next, where the message does not say it."""

    exit_code: int  # type: ignore[misc]  # click's is the class's; here what failed decides

    def __init__(self, message: str, exit_code: int, move: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.move = move

    def show(self, file: Any = None) -> None:
        """Say it on standard error."""
        super().show(file)
        if self.move is not None:
            click.echo(f"  next: {self.move}", file=file, err=file is None)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """End the command with what the manager, or the way to it, says went wrong."""
    try:
        yield
    except (OperationError, Problem) as error:
        raise CatalogueFailure(error) from error


def _as_yaml(data: Any) -> str:
    import yaml

    plain = json.loads(json.dumps(data, default=str))  # the same values as JSON has
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=_WIDE)
    return text


def _width() -> int | None:
    """A person's terminal has a width; a file or a pipe takes whole lines."""
    return None if sys.stdout.isatty() else _WIDE


pass_session = click.make_pass_decorator(Session)
