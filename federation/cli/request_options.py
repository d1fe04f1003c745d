"""The command-line options of a request, made from its declared fields.

A struct's fields become options of their own.  A tagged union needs no option for its tag: the member that takes
everything that was given is meant (``--volume v`` names a volume that exists, ``--volume v --size 1GiB`` a new one).
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from federation.cli.completing import complete_nodes
from federation.cli.examples import SAMPLES
from federation.cli.quantities import SIZE
from federation.contract.fields import SECRET_FIELDS
from federation.contract.instances import Flavour

Option = Callable[..., Any]
Gather = Callable[[dict[str, Any]], dict[str, Any]]
_SUBJECTS = frozenset({"instance"})
"""Fields that are the command's argument."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options of a request, and how their values become its arguments."""

    options: tuple[Option, ...]
    gather: Gather
    example: tuple[str, ...] = ()
    """Words that give what has to be given."""


def options_of(request: type[msgspec.Struct], leave_out: frozenset[str] = _SUBJECTS) -> RequestOptions:
    """The options of every field of a request but those that the command asks for otherwise."""
    options: list[Option] = []
    gatherers: list[Gather] = []
    example: list[str] = []
    for field in msgspec.structs.fields(request):
        if field.name in leave_out:
            continue
        made = _of_field(field)
        options += made.options
        gatherers.append(made.gather)
        example += made.example

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for gatherer in gatherers for name, value in gatherer(values).items()}

    return RequestOptions(tuple(options), gather, tuple(example))


def flavour_options() -> list[Option]:
    """Processors, memory, firmware."""
    return [
        click.option("--firmware", type=click.Choice(["bios", "uefi"]), default="bios", show_default=True),
        click.option("--memory", type=SIZE, required=True, help="Memory, such as 2GiB."),
        click.option("--vcpus", type=click.IntRange(min=1), required=True, help="Virtual processors."),
    ]


def flavour_of(values: dict[str, Any]) -> dict[str, Any]:
    """The contract's Flavour in builtin types."""
    return {"vcpus": values["vcpus"], "memory_bytes": values["memory"], "firmware": values["firmware"]}


def _of_field(field: msgspec.structs.FieldInfo) -> RequestOptions:
    kind = _plain(field.type)
    name = field.name
    if kind is Flavour:
        words = ("--vcpus", "2", "--memory", "2GiB")
        return RequestOptions(tuple(flavour_options()), lambda values: {name: flavour_of(values)}, words)
    members = _structs(kind)
    if members:
        return _of_structs(name, members)
    if name in SECRET_FIELDS:
        return _secret(name)
    if typing.get_origin(kind) is dict:
        return _pairs(name)
    example = _words_of(field) if _is_required(field) else ()
    option = _option(field, kind, required=_is_required(field))
    return RequestOptions((option,), lambda values: _given(values, name), example)


def _of_structs(name: str, members: Sequence[type[msgspec.Struct]]) -> RequestOptions:
    """Options for the fields of a struct, or of all members of a tagged union together."""
    fields: dict[str, msgspec.structs.FieldInfo] = {}
    for member in members:
        for field in msgspec.structs.fields(member):
            fields.setdefault(field.name, field)
    everywhere = {
        each for each in fields if all(each in _required(member) for member in members)
    }  # what every member must have, the command must be given
    options = [_option(field, _plain(field.type), required=each in everywhere) for each, field in fields.items()]

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        given = {each: values[each] for each in fields if values.get(each) not in {None, False}}
        return {name: _tagged(_meant(members, given), given)}

    first = [field for field in msgspec.structs.fields(members[0]) if _is_required(field)]
    return RequestOptions(tuple(options), gather, tuple(word for field in first for word in _words_of(field)))


def _meant(members: Sequence[type[msgspec.Struct]], given: Iterable[str]) -> type[msgspec.Struct]:
    given = set(given)
    for member in members:
        if _required(member) <= given <= {field.name for field in msgspec.structs.fields(member)}:
            return member
    ways = "; or ".join(_way(member) for member in members)
    message = f"these options do not go together; give {ways}"
    raise click.UsageError(message)


def _way(member: type[msgspec.Struct]) -> str:
    needed = " ".join(_flag(name) for name in sorted(_required(member)))
    more = [_flag(f.name) for f in msgspec.structs.fields(member) if f.name not in _required(member)]
    return needed + (f" (and {', '.join(more)} if wanted)" if more else "")


def _tagged(member: type[msgspec.Struct], given: dict[str, Any]) -> dict[str, Any]:
    config = member.__struct_config__
    return ({config.tag_field: config.tag} if config.tag_field else {}) | given


def _secret(name: str) -> RequestOptions:
    """Asked for without echo, or read from a file: never an argument, which every process of the machine can read."""
    parameter = f"{name}_file"
    option = click.option(
        f"--{name}-file",
        parameter,
        type=click.Path(dir_okay=False, exists=True, allow_dash=True, path_type=Path),
        help=f"File whose first line is the {name}, - for standard input; asked for if not given.",
    )

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        path: Path | None = values.get(parameter)
        if path is None:
            return {name: click.prompt(name.capitalize(), hide_input=True, confirmation_prompt=True, err=True)}
        with click.open_file(str(path), encoding="utf-8") as file:
            return {name: file.readline().rstrip("\r\n")}

    return RequestOptions((option,), gather)


def _pairs(name: str) -> RequestOptions:
    option = click.option(f"--{name}", name, multiple=True, metavar="NAME=VALUE", help="Repeat for more.")

    def gather(values: dict[str, Any]) -> dict[str, Any]:
        pairs: dict[str, str] = {}
        for pair in values.get(name) or ():
            key, separator, value = pair.partition("=")
            if not separator or not key:
                message = f"--{name} is {pair!r}, expected NAME=VALUE"
                raise click.UsageError(message)
            pairs[key] = value
        return {name: pairs} if pairs else {}

    return RequestOptions((option,), gather)


def _given(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return {} if value is None else {name: value}


def _option(field: msgspec.structs.FieldInfo, kind: Any, *, required: bool) -> Option:
    flag, text = _flag(field.name), _description(field.type)
    default = None if _is_required(field) else field.default
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = click.Choice([str(member.value) for member in kind])
        return click.option(
            flag,
            field.name,
            type=choices,
            help=text,
            required=required,
            default=default and str(default),
            show_default=default is not None,
        )
    if kind is bool and not _is_required(field):
        return click.option(f"{flag}/--no-{flag[2:]}", field.name, default=bool(default), help=text, show_default=True)
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text, required=required)
    if field.name.endswith("_bytes") and flag == "--size":
        return click.option(flag, field.name, type=SIZE, required=required, help="Such as 20GiB.")
    metavar = "SECONDS" if field.name.endswith("_seconds") else None
    plain = kind if kind in {int, float} else str
    shown = default not in {None, "", msgspec.NODEFAULT}
    return click.option(
        flag,
        field.name,
        shell_complete=complete_nodes if field.name == "node" else None,
        type=plain,
        help=text,
        required=required,
        default=default if shown else None,
        show_default=shown,
        metavar=metavar,
    )


def _words_of(field: msgspec.structs.FieldInfo) -> tuple[str, ...]:
    """An option of an example, with a value that it may have."""
    kind = _plain(field.type)
    if kind is bool:
        return (_flag(field.name),)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _flag(field.name), str(next(iter(kind)).value)
    return _flag(field.name), SAMPLES.get(field.name, "1")


def _flag(name: str) -> str:
    plain = "size" if name == "size_bytes" else name.removesuffix("_seconds")
    return "--" + plain.replace("_", "-")


def _description(annotation: Any) -> str | None:
    """What the field's type says of itself."""
    for part in (annotation, *typing.get_args(annotation)):
        for note in getattr(part, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and note.description:
                return note.description
    return None


def _is_required(field: msgspec.structs.FieldInfo) -> bool:
    return field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT


def _required(member: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(member) if _is_required(field)}


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    """The struct, or the members of the union of structs, that a field holds; empty for anything else."""
    members = typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, types.UnionType} else (kind,)
    members = tuple(_plain(member) for member in members if member is not type(None))
    if all(isinstance(member, type) and issubclass(member, msgspec.Struct) for member in members):
        return list(members)
    return []


def _plain(annotation: Any) -> Any:
    """The type behind Annotated and Optional."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return _plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation
