"""Names for the shell's completion, asked of the manager of the context in effect.

Whoever presses the tab key waits for it: one try, one second; where anything is wrong there are no names, and no words.
Over the broker nothing is asked, because joining it takes longer than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from federation.cli.session import Flags, Session

_SECONDS = 1.0
_MOST = 1000
_Ask = Callable[..., Any]
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _names(ctx: click.Context, look: Callable[[_Ask], Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    said = ctx.find_root().params
    session = Session(
        Flags(said.get("config_file"), said.get("broker"), said.get("context"), _SECONDS), environment=_environment()
    )
    try:
        context = session.choice.context
        if context is None:
            return []
        from federation.cli.rest_way import RestWay

        way = RestWay(context, _SECONDS, tries=1)
        try:
            return list(look(lambda use_case, **arguments: way.ask(use_case, arguments)))
        finally:
            way.close()
    except Exception:  # noqa: BLE001 (a word here would land in the line that is being typed)
        return []


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _completing(look: Callable[[_Ask, str | None], Iterable[tuple[str, str]]]) -> _Complete:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        cluster = ctx.params.get("cluster")
        found = _names(ctx, lambda ask: look(ask, cluster))
        return [CompletionItem(name, help=about) for name, about in found if name.startswith(incomplete)]

    return complete


def _instances(ask: _Ask, cluster: str | None) -> Iterable[tuple[str, str]]:
    return ((each["name"], each["state"]) for each in ask("instances", cluster=cluster, limit=_MOST))


def _clusters(ask: _Ask, _: str | None) -> Iterable[tuple[str, str]]:
    return ((each["name"], each["driver"]) for each in ask("clusters"))


def _nodes(ask: _Ask, cluster: str | None) -> Iterable[tuple[str, str]]:
    return ((each["name"], each["cluster"]) for each in ask("nodes", cluster=cluster))


def _workers(ask: _Ask, cluster: str | None) -> Iterable[tuple[str, str]]:
    return ((each["id"], each["state"]) for each in ask("workers", cluster=cluster) if each["state"] == "admitted")


def _operations(ask: _Ask, cluster: str | None) -> Iterable[tuple[str, str]]:
    return ((each["id"], f"{each['name']} {each['state']}") for each in ask("operations", cluster=cluster, limit=50))


complete_instances = _completing(_instances)
complete_clusters = _completing(_clusters)
complete_nodes = _completing(_nodes)
complete_workers = _completing(_workers)
complete_operations = _completing(_operations)


def complete_contexts(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the contexts, from their file."""
    from federation.cli.contexts_file import LOCAL, ContextError, contexts_path, read_contexts

    del ctx
    try:
        known = read_contexts(contexts_path(_environment()))
    except ContextError:
        return []
    found = {LOCAL: "over the broker", **{name: each.url for name, each in known.contexts.items()}}
    return [CompletionItem(name, help=about) for name, about in sorted(found.items()) if name.startswith(incomplete)]
