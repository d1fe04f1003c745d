"""Commands made from the contract's declarations: an operation that is declared is a command, without a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
import msgspec

from federation.cli.completing import complete_clusters, complete_instances
from federation.cli.examples import examples
from federation.cli.rendering import Column, show_list, show_record, size
from federation.cli.request_options import options_of
from federation.cli.session import EXIT_LEFT_RUNNING, Session, pass_session
from federation.cli.waiting import follow, show_outcome
from federation.contract.operations import Lane, Operation

INSTANCE = click.argument("instance", metavar="INSTANCE", shell_complete=complete_instances)
ON_CLUSTER = click.option(
    "--cluster", shell_complete=complete_clusters, help="The instance's cluster, where names are not unique."
)
OF_CLUSTER = click.option("--cluster", shell_complete=complete_clusters, help="Only this cluster's.")


def submission_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every change has."""
    for option in (
        click.option("--wait/--no-wait", default=True, help="Follow the operation to its outcome (default), or not."),
        click.option("--deadline", type=float, metavar="SECONDS", help="Give it up if it has not started by then."),
        click.option("--idempotency-key", metavar="KEY", help="The same key never makes two operations."),
    ):
        command = option(command)
    return command


def instance_command(operation: Operation) -> click.Command:
    """The command of an operation that changes one instance."""
    made = options_of(operation.request)

    @pass_session
    def run(session: Session, /, instance: str, cluster: str | None, **values: Any) -> None:
        submit(
            session,
            values,
            name=operation.name,
            revision=operation.revision,
            instance=instance,
            cluster=cluster,
            arguments=made.gather(values),
        )

    command: Any = run
    for option in reversed(made.options):
        command = option(command)
    command = submission_options(ON_CLUSTER(INSTANCE(command)))
    epilog = example_of("federation instance", operation, "web-1", made.example)
    declared: click.Command = click.command(operation.verb, help=help_of(operation), epilog=epilog)(command)
    return declared


def submit(session: Session, values: dict[str, Any], **submission: Any) -> dict[str, Any]:
    """Submit, then follow it or show where it stands."""
    try:
        record: dict[str, Any] = session.ask(
            "submit",
            deadline_seconds=values.get("deadline"),
            idempotency_key=values.get("idempotency_key"),
            requested_by=session.user,
            **submission,
        )
    except KeyboardInterrupt:
        session.messages.print(
            "\nleft before the manager had answered: it may have been accepted\n  look: federation operation list",
            markup=False,
        )
        raise click.exceptions.Exit(EXIT_LEFT_RUNNING) from None
    if values.get("wait", True):
        return follow(session, record)
    show_outcome(session, record)
    return record


def help_of(operation: Operation) -> str:
    """What the command says of itself."""
    text = operation.summary
    if operation.capability is not None:
        text += f"\n\nNeeds the capability {operation.capability}."
    return text


def example_of(group: str, operation: Operation, subject: str, words: Iterable[str]) -> str:
    """The epilog of an operation's command: what has to be said, and for a change also how not to wait for it."""
    line = " ".join([group, operation.verb, subject, *words])
    return examples(line, *([f"{line} --no-wait"] if operation.lane is Lane.ORDERED else [f"{line} -o json"]))


def query_command(operation: Operation) -> click.Command:
    """The command of a query about one instance."""
    made = options_of(operation.request)

    @pass_session
    def run(session: Session, /, instance: str, cluster: str | None, **values: Any) -> None:
        seen = session.ask(
            "read",
            name=operation.name,
            revision=operation.revision,
            instance=instance,
            cluster=cluster,
            arguments=made.gather(values),
        )
        show_result(session, operation.result, seen)

    command: Any = run
    for option in reversed(made.options):
        command = option(command)
    command = ON_CLUSTER(INSTANCE(command))
    epilog = example_of("federation instance", operation, "web-1", made.example)
    declared: click.Command = click.command(operation.verb, help=help_of(operation), epilog=epilog)(command)
    return declared


def show_result(session: Session, kind: type[msgspec.Struct], seen: dict[str, Any]) -> None:
    """A result as facts, and as a table where it is nothing but a list of structs."""
    fields = msgspec.structs.fields(kind)
    if len(fields) == 1 and isinstance(seen.get(fields[0].name), list):
        rows = seen[fields[0].name]
        titles = {title: None for row in rows for title in row}
        columns = {title.upper().replace("_", " "): _column(title) for title in titles}
        show_list(session, rows, columns, f"no {fields[0].name}")
        return
    show_record(session, seen, {title.replace("_", " "): _column(title) for title in seen})


def _column(title: str) -> Column:
    def value(record: Mapping[str, Any]) -> object:
        found = record.get(title)
        if isinstance(found, list):
            return "; ".join(_words(each) for each in found)
        if isinstance(found, bool):
            return "yes" if found else "no"
        return size(found) if found is not None and title.endswith("_bytes") else _words(found)

    return value


def _words(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items() if each not in (None, "", [], {}))
    return "" if value is None else str(value)


def commands_of(operations: Iterable[Operation]) -> list[click.Command]:
    """The newest revision of each operation as a command."""
    newest = {operation.verb: operation for operation in operations}
    make = {Lane.ORDERED: instance_command, Lane.QUERY: query_command}
    return [make[operation.lane](operation) for operation in newest.values()]
