"""The generated parts of docs/contract.md and the release file; ``python -m federation.contract.page`` writes both.

What stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in the page is made here; the rest is prose.  A test
compares the files with what would be written.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from federation.contract.capabilities import MEANING
from federation.contract.errors import CATALOGUE
from federation.contract.operations import DECLARED, Operation
from federation.contract.release import CURRENT, snapshot

RELEASES = Path(__file__).with_name("releases")
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """The page with its generated parts made anew; KeyError names a part that nobody makes."""
    return _BLOCK.sub(lambda block: block[1] + "\n" + _PARTS[block[2]]() + "\n" + block[3], page)


def release_text() -> str:
    """What the current release's file holds."""
    return json.dumps(snapshot(), indent=1, ensure_ascii=False, default=str) + "\n"


def release_file() -> Path:
    """Where the current release's file is."""
    return RELEASES / f"{CURRENT}.json"


def _operations() -> str:
    return "\n".join(line for operation in DECLARED for line in _operation(operation))


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### `{operation.name}`"
    yield ""
    yield operation.summary + " " + _first_line(operation.request)
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
    yield "| argument | type | default | |"
    yield "|---|---|---|---|"
    for field in fields:
        described = properties[field.encode_name]
        default = "required" if field.required else f"`{json.dumps(described.get('default'))}`"
        yield f"| `{field.encode_name}` | {_type(described)} | {default} | {described.get('description', '')} |"
    yield ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[-1]}`"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
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
    lines: list[str] = []
    for name, schema in components.items():
        if name in requests:
            continue
        lines += [f"### `{name}`", "", schema.get("description", ""), ""]
        if "enum" in schema:
            lines += ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
        if schema.get("properties"):
            lines += ["| field | type | |", "|---|---|---|"]
            required = set(schema.get("required", []))
            for field, described in schema["properties"].items():
                must = "required" if field in required else ""
                lines.append(f"| `{field}` | {_type(described)} | {described.get('description', must)} |")
            lines.append("")
    return "\n".join(lines)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


_PARTS: dict[str, Callable[[], str]] = {
    "operations": _operations,
    "errors": _errors,
    "capabilities": _capabilities,
    "types": _types,
}


def main(page: Path) -> None:
    """Write the page's generated parts and the release file."""
    page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
    RELEASES.mkdir(exist_ok=True)
    release_file().write_text(release_text(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/contract.md"))
