"""Commands made from the contract's declarations: an operation that is declared is a command, without a line here."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from federation.cli.quantities import SIZE
from federation.cli.session import Session, pass_session
from federation.cli.waiting import follow, show_outcome
from federation.contract.instances import Flavour
from federation.contract.operations import Operation

INSTANCE = click.argument("instance", metavar="INSTANCE")
ON_CLUSTER = click.option("--cluster", help="The instance's cluster, where names are not unique.")


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
    options, gather = _options(operation.request)

    @pass_session
    def run(session: Session, /, instance: str, cluster: str | None, **values: Any) -> None:
        submit(
            session,
            values,
            name=operation.name,
            revision=operation.revision,
            instance=instance,
            cluster=cluster,
            arguments=gather(values),
        )

    command: Any = run
    for option in options:
        command = option(command)
    command = submission_options(ON_CLUSTER(INSTANCE(command)))
    declared: click.Command = click.command(operation.verb, help=_help(operation))(command)
    return declared


def submit(session: Session, values: dict[str, Any], **submission: Any) -> dict[str, Any]:
    """Submit, then follow it or show where it stands."""
    record: dict[str, Any] = session.ask(
        "submit",
        deadline_seconds=values.get("deadline"),
        idempotency_key=values.get("idempotency_key"),
        requested_by=session.user,
        **submission,
    )
    if values.get("wait", True):
        return follow(session, record)
    show_outcome(session, record)
    return record


def _help(operation: Operation) -> str:
    text = operation.summary
    if operation.capability is not None:
        text += f"\n\nNeeds the capability {operation.capability}."
    return text


def _options(
    request: type[msgspec.Struct],
) -> tuple[list[Callable[..., Any]], Callable[[dict[str, Any]], dict[str, Any]]]:
    """The options of a request's fields, and how their values become arguments."""
    options: list[Callable[..., Any]] = []
    gatherers: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
    for field in msgspec.structs.fields(request):
        if field.name == "instance":
            continue
        kind = _plain(field.type)
        if kind is Flavour:
            options += flavour_options()
            gatherers.append(lambda values: {"flavour": flavour_of(values)})
        else:
            options.append(_option(field, kind))
            gatherers.append(lambda values, name=field.name: _given(values, name))  # type: ignore[misc]  # bound now

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for gatherer in gatherers for name, value in gatherer(values).items()}

    return options, gather


def flavour_options() -> list[Callable[..., Any]]:
    """Processors, memory, firmware."""
    return [
        click.option("--firmware", type=click.Choice(["bios", "uefi"]), default="bios", show_default=True),
        click.option("--memory", type=SIZE, required=True, help="Memory, such as 2GiB."),
        click.option("--vcpus", type=click.IntRange(min=1), required=True, help="Virtual processors."),
    ]


def flavour_of(values: dict[str, Any]) -> dict[str, Any]:
    """The contract's Flavour in builtin types."""
    return {"vcpus": values["vcpus"], "memory_bytes": values["memory"], "firmware": values["firmware"]}


def _given(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return {} if value is None else {name: value}


def _option(field: msgspec.structs.FieldInfo, kind: Any) -> Callable[..., Any]:
    name = "--" + field.name.replace("_", "-").removesuffix("-seconds")
    required = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
    default = None if required else field.default
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = click.Choice([str(member.value) for member in kind])
        return click.option(name, field.name, type=choices, default=default and str(default), show_default=True)
    if kind is bool:
        return click.option(f"{name}/--no-{name[2:]}", field.name, default=bool(default), show_default=True)
    metavar = "SECONDS" if field.name.endswith("_seconds") else None
    plain = kind if kind in {int, float} else str
    return click.option(
        name, field.name, type=plain, required=required, default=default, show_default=not required, metavar=metavar
    )


def _plain(annotation: Any) -> Any:
    """The type behind Annotated and Optional."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return _plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def commands_of(operations: Iterable[Operation]) -> list[click.Command]:
    """The newest revision of each operation as a command."""
    newest = {operation.verb: operation for operation in operations}
    return [instance_command(operation) for operation in newest.values()]
