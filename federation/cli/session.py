"""What every command shares: the options, a way to the manager, and how to speak to the person."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
from oslo_config import cfg
from rich.console import Console
from rich.text import Text

from federation.bootstrap.client import ManagerClient, value_of
from federation.contract.errors import OperationError

_WIDE = 400
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_LEFT_RUNNING = 130


@dataclass(slots=True)
class Session:
    """One run of the command line.

    ``open_client`` is replaced when the manager runs in this very process.
    """

    conf: cfg.ConfigOpts
    output: str
    console: Console = field(default_factory=lambda: Console(highlight=False, width=_width()))
    messages: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))
    open_client: Callable[[Session], Any] | None = None
    _client: Any = None

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call the manager; ends the command with a clear error when that fails."""
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            return value_of(self.client.call(method, given))
        except OperationError as error:
            raise CatalogueFailure(error) from error

    @property
    def client(self) -> Any:
        """The way to the manager, opened when it is first needed."""
        if self._client is None:
            if self.open_client is not None:
                self._client = self.open_client(self)
            else:
                self._client = ManagerClient(self.conf.broker, self.conf.timeout)
        return self._client

    @property
    def user(self) -> str:
        """Who asks, for the manager's records."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return f"uid {os.getuid()}"

    def close(self) -> None:
        """Let go of the manager."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at standard output now."""
        return sys.stdout.isatty()


class CatalogueFailure(click.ClickException):
    """An error of the catalogue ends the command: code, message, next move."""

    exit_code = EXIT_REFUSED

    def __init__(self, error: OperationError) -> None:
        super().__init__(error.message)
        self.error = error

    def show(self, file: Any = None) -> None:
        """Say it on standard error."""
        console = Console(stderr=True, highlight=False, file=file)
        console.print(Text.assemble(("error", "bold red"), f" {self.error.code}: {self.error.message}"), soft_wrap=True)
        console.print(Text(f"  next: {self.error.next_move}"), soft_wrap=True)


class BusFailure(click.ClickException):
    """Broker or store could not be used."""

    exit_code = EXIT_FAILED


def _width() -> int | None:
    """A person's terminal has a width; a file or a pipe takes whole lines."""
    return None if sys.stdout.isatty() else _WIDE


pass_session = click.make_pass_decorator(Session)
