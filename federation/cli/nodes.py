"""``federation node``: look at nodes and operate them.  A node is named within its cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from federation.cli.completing import complete_clusters, complete_nodes
from federation.cli.declared import OF_CLUSTER, example_of, help_of, submission_options, submit
from federation.cli.examples import examples
from federation.cli.rendering import age, show_list, size
from federation.cli.request_options import options_of
from federation.cli.session import Session, pass_session
from federation.cli.waiting import follow
from federation.contract.operations import DECLARED, Operation, Ordering
from federation.manager.operating import Resolution

_NODE = click.argument("node", metavar="NODE", shell_complete=complete_nodes)
_ON_CLUSTER = click.option("--cluster", required=True, shell_complete=complete_clusters, help="The node's cluster.")


@click.group()
def node() -> None:
    """Look at nodes and operate them."""


@node.command("list", epilog=examples("federation node list", "federation node list --cluster lab --refresh"))
@OF_CLUSTER
@click.option("--refresh", is_flag=True, help="Ask the workers now; needs --cluster.")
@pass_session
def list_nodes(session: Session, /, cluster: str | None, refresh: bool) -> None:  # noqa: FBT001 (click's flag)
    """List nodes with what they have and what is in use."""
    if refresh:
        if cluster is None:
            message = "--refresh needs --cluster"
            raise click.UsageError(message)
        session.ask("refresh_cluster", cluster=cluster)
    now = time.time()
    columns = {
        "NODE": lambda n: n["name"],
        "CLUSTER": lambda n: n["cluster"],
        "STATE": _state,
        "HYPERVISOR": lambda n: n["facts"]["hypervisor"],
        "VCPUS": lambda n: _of(n["facts"], "vcpus", str),
        "MEMORY": lambda n: _of(n["facts"], "memory_bytes", size),
        "STORAGE": lambda n: _of(n["facts"], "storage_bytes", size),
        "INSTANCES": lambda n: n["facts"]["instances"],
        "SEEN": lambda n: age(n["seen_at"], now),
    }
    show_list(session, session.ask("nodes", cluster=cluster), columns, "no nodes known; is a worker running?")


def _of(facts: dict[str, Any], what: str, shown: Callable[[Any], str]) -> str:
    """What is in use of what there is, as far as it is known."""
    used, total = facts[f"{what}_used"], facts[f"{what}_total"]
    return "" if total is None else f"{'?' if used is None else shown(used)}/{shown(total)}"


def _state(record: Any) -> str:
    facts = record["facts"]
    if record["parked_by"]:
        return "parked"
    if not facts["reachable"]:
        return f"unreachable: {facts['message']}"
    if facts.get("maintenance"):
        return "maintenance"
    return "ready" if facts["accepts_instances"] else "closed"


@node.command("resolve", epilog=examples("federation node resolve node-1 --cluster lab --accept"))
@_NODE
@_ON_CLUSTER
@click.option(
    "--retry", "resolution", flag_value=Resolution.RETRY.value, help="Send the operation again, as a new one."
)
@click.option("--accept", "resolution", flag_value=Resolution.ACCEPT.value, help="It took effect; go on.")
@click.option(
    "--abandon", "resolution", flag_value=Resolution.ABANDON.value, help="It did not, or does not matter; go on."
)
@pass_session
def resolve(session: Session, /, node: str, cluster: str, resolution: str | None) -> None:
    """Unpark a node whose last operation has an unknown outcome.

    Look at it first (node list --refresh --cluster CLUSTER), then say what is true.
    """
    if resolution is None:
        message = "give one of --retry, --accept, --abandon"
        raise click.UsageError(message)
    retried = session.ask("resolve", node=node, cluster=cluster, resolution=resolution, requested_by=session.user)
    if retried is None:
        session.messages.print(f"{node}: resolved ({resolution})", markup=False)
        return
    follow(session, retried)


@node.command("forget", epilog=examples("federation node forget node-3 --cluster lab"))
@_NODE
@_ON_CLUSTER
@pass_session
def forget(session: Session, /, node: str, cluster: str) -> None:
    """Forget a node that is gone and has no instances."""
    session.ask("forget_node", node=node, cluster=cluster)
    session.messages.print(f"forgot node {node} of cluster {cluster}", markup=False)


def node_command(operation: Operation) -> click.Command:
    """The command of an operation that changes one node."""
    made = options_of(operation.request, leave_out=frozenset({"node"}))

    @pass_session
    def run(session: Session, /, node: str, cluster: str, **values: Any) -> None:
        submit(
            session,
            values,
            name=operation.name,
            revision=operation.revision,
            cluster=cluster,
            arguments={"node": node, **made.gather(values)},
        )

    command: Any = run
    for option in reversed(made.options):
        command = option(command)
    command = submission_options(_ON_CLUSTER(_NODE(command)))
    epilog = example_of("federation node", operation, "node-1", ["--cluster", "lab", *made.example])
    declared: click.Command = click.command(operation.verb, help=help_of(operation), epilog=epilog)(command)
    return declared


for _operation in {each.verb: each for each in DECLARED if each.ordering is Ordering.NODE}.values():
    node.add_command(node_command(_operation))
