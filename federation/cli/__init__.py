"""The command line: the manager's use cases in words."""

from federation.cli.main import main

__all__ = ["main"]
