"""The generated parts of the pages about the contract, and the current release's file.

``python -m federation.contract.page`` writes them; with ``--freeze`` it freezes the current release as well, or says why it
cannot be.  What stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in a page is made here; the rest is prose.  A test
compares the files with what would be written.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from federation.contract.capabilities import MEANING
from federation.contract.errors import CATALOGUE
from federation.contract.evolution.checking import FILE_RULES, may_freeze
from federation.contract.evolution.comparison import BOOKS
from federation.contract.evolution.frozen import ReleaseFiles
from federation.contract.field_words import field_words
from federation.contract.operations import DECLARED, Operation
from federation.contract.release import CURRENT, classes_of

PAGES = ("docs/contract.md", "docs/explanation/evolution.md")
"""The pages with generated parts, from the repository's root."""
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """The page with its generated parts made anew; KeyError names a part that nobody makes."""
    return _BLOCK.sub(lambda block: block[1] + "\n" + _PARTS[block[2]]() + "\n" + block[3], page)


def _operations() -> str:
    return "\n".join(line for operation in DECLARED for line in _operation(operation))


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### `{operation.name}`"
    yield ""
    yield operation.summary
    yield ""
    yield _markdown(inspect.cleandoc(operation.request.__doc__ or ""))
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| revision, since | {operation.revision}, release {operation.since} |"
    ordered = f", ordered by {operation.ordering}" if operation.ordering else ""
    yield f"| lane | {operation.lane}{ordered} |"
    yield f"| capability | {f'`{operation.capability}`' if operation.capability else 'every driver'} |"
    yield f"| convergence | {operation.convergence} |"
    yield f"| default deadline | {operation.default_deadline_seconds:g} s |"
    yield f"| result | `{operation.result.__name__}`: {_first_line(operation.result)} |"
    yield f"| errors | {', '.join(f'`{code}`' for code in sorted(operation.errors))} |"
    yield ""
    yield from _fields(operation.request)


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    fields = msgspec.structs.fields(kind)
    if not fields:
        yield "No arguments."
        yield ""
        return
    schema = msgspec.json.schema(kind)
    properties: dict[str, Any] = schema["$defs"][kind.__name__]["properties"]
    words = field_words(kind)
    yield "| argument | type | default | |"
    yield "|---|---|---|---|"
    for field in fields:
        described = properties[field.encode_name]
        default = "required" if field.required else f"`{json.dumps(described.get('default'))}`"
        yield f"| `{field.encode_name}` | {type_words(described)} | {default} | {_about(field.encode_name, described, words)} |"
    yield ""


def type_words(schema: Mapping[str, Any]) -> str:
    """A field's JSON Schema in the few words of a table's cell."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in schema:
        return " or ".join(type_words(one) for one in schema["anyOf"])
    limits = {
        "minimum": "≥",
        "maximum": "≤",
        "exclusiveMinimum": ">",
        "maxLength": "length ≤",
        "multipleOf": "multiple of",
    }
    words = [f"{sign} {schema[name]}" for name, sign in limits.items() if name in schema]
    return " ".join([str(schema.get("type", "any")), *words])


def _errors() -> str:
    lines = ["| code | at fault | effect | meaning | next move |", "|---|---|---|---|---|"]
    for code, error in CATALOGUE.items():
        meaning = (error.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{code}` | {error.fault} | {error.effect} | {meaning} | {error.next_move} |")
    return "\n".join(lines) + "\n"


def _capabilities() -> str:
    lines = ["| capability | meaning |", "|---|---|"]
    lines += [f"| `{flag}` | {meaning} |" for flag, meaning in MEANING.items()]
    return "\n".join(lines) + "\n"


def _types() -> str:
    kinds = [kind for operation in DECLARED for kind in (operation.request, operation.result)]
    _, components = msgspec.json.schema_components(kinds)
    requests = {operation.request.__name__ for operation in DECLARED}
    classes = {kind.__name__: kind for kind in classes_of(kinds)}
    lines: list[str] = []
    for name, schema in components.items():
        if name in requests:
            continue
        words = field_words(classes[name]) if "properties" in schema else {}
        lines += [f"### `{name}`", "", _markdown(inspect.cleandoc(schema.get("description", ""))), ""]
        if "enum" in schema:
            lines += ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
        if schema.get("properties"):
            lines += ["| field | type | |", "|---|---|---|"]
            required = set(schema.get("required", []))
            for field, described in schema["properties"].items():
                must = "required; " if field in required else ""
                about = _about(field, described, words)
                lines.append(f"| `{field}` | {type_words(described)} | {(must + about).removesuffix('; ')} |")
            lines.append("")
    return "\n".join(lines)


def _rules() -> str:
    lines: list[str] = []
    for book in BOOKS:
        lines += [
            f"### About {book.subject}",
            "",
            "| rule | direction | weight | fires when | what to do |",
            "|---|---|---|---|---|",
        ]
        for rule in book.rules:
            lines.append(f"| `{rule.name}` | {rule.direction} | {rule.weight} | {rule.text} | {rule.action} |")
        lines.append("")
    lines += ["### About the files", "", "| rule | fires when |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in FILE_RULES.items()]
    return "\n".join(lines) + "\n"


def _about(field: str, described: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """What is said of a field: by its type, and by the words under it in the source."""
    return _markdown(" ".join(each for each in (described.get("description"), words.get(field)) if each))


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|") if "``" in text else text


def _first_line(kind: type) -> str:
    return _markdown((kind.__doc__ or "").strip().splitlines()[0])


_PARTS: dict[str, Callable[[], str]] = {
    "operations": _operations,
    "errors": _errors,
    "capabilities": _capabilities,
    "types": _types,
    "rules": _rules,
}


def main(arguments: list[str], files: ReleaseFiles | None = None) -> str | None:
    """Write the pages' generated parts and the release file, freeze it if told to; returns what went wrong."""
    files = files or ReleaseFiles()
    for page in map(Path, PAGES):
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    files.write_draft()
    if "--freeze" not in arguments:
        return None
    if reasons := may_freeze(files):
        return "\n".join([f"release {CURRENT} is not frozen:", *reasons])
    files.freeze()
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
