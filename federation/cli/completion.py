"""``federation completion``: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from federation.cli.examples import examples

_PROGRAM = "federation"
_VARIABLE = "_FEDERATION_COMPLETE"


@click.command(
    epilog=examples(
        'eval "$(federation completion bash)"        in ~/.bashrc',
        'eval "$(federation completion zsh)"         in ~/.zshrc',
        "federation completion fish > ~/.config/fish/completions/federation.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write what makes a shell complete commands, options, and names of instances, clusters, nodes, workers and contexts.

    Names are asked of the manager of the context in effect, for a second at most; over the broker none are.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"completion of {shell} is not known to the installed click")
    click.echo(kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE).source())
