"""Which way a command takes to a manager: the first of these that is given.

1. ``--context NAME``, or ``--broker URL`` (not both);
2. ``FEDERATION_CONTEXT``;
3. ``FEDERATION_BROKER`` or ``FEDERATION_BROKER_FILE``, and a broker in the file of ``--config``;
4. the current context (``federation login``, ``federation context use``);
5. the broker of ``/etc/federation/federation.conf``, or the one on this machine.

The context ``local`` stands for the last, wherever it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from federation.cli.contexts_file import LOCAL, Context, ContextError, Contexts

VARIABLE = "FEDERATION_CONTEXT"
_BROKERS = ("FEDERATION_BROKER", "FEDERATION_BROKER_FILE")


@dataclass(frozen=True, slots=True)
class Choice:
    """A context, or None for the broker; ``reason`` says what decided."""

    name: str
    context: Context | None
    reason: str


def choose(
    context: str | None,
    broker: str | None,
    environment: Mapping[str, str],
    contexts: Callable[[], Contexts],
    *,
    file_names_broker: Callable[[], bool] = lambda: False,
) -> Choice:
    """The way that is taken; raises ContextError for a name that is not known, and for two ways at once."""
    if context and broker:
        raise ContextError("--context and --broker are both given; a command takes one way")
    for name, reason in ((context, "--context"), (None if broker else environment.get(VARIABLE), VARIABLE)):
        if name:
            return _named(name, contexts(), reason)
    if broker:
        return Choice(LOCAL, None, "--broker")
    for variable in _BROKERS:
        if environment.get(variable):
            return Choice(LOCAL, None, variable)
    if file_names_broker():
        return Choice(LOCAL, None, "--config")
    known = contexts()
    if known.current is not None:
        return _named(known.current, known, "the current context")
    return Choice(LOCAL, None, "no context is chosen")


def _named(name: str, known: Contexts, reason: str) -> Choice:
    return Choice(name, None if name == LOCAL else known.named(name), reason)


def shadowed_by(environment: Mapping[str, str]) -> str | None:
    """The variable that goes before the current context, where one is set."""
    return next((name for name in (VARIABLE, *_BROKERS) if environment.get(name)), None)
