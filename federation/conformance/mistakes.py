"""Requests that break one rule each, made from the operations' own types: what a case tries is every limit of every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from federation.contract.operations import Operation

INSTANCE = "01a20336-0c59-7465-9ed0-fa7d41e2d169"
_VALUES: dict[str, Any] = {"instance": INSTANCE, "snapshot": INSTANCE, "mac": "52:54:00:00:00:01"}


def mistakes_of(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is wrong, and the request."""
    _, types = msgspec.json.schema_components([operation.request], ref_template="#/{name}")
    schema = types[operation.request.__name__]
    valid = _example(schema, types)
    yield "an unknown field", valid | {"surprise": 1}
    for name, described in schema.get("properties", {}).items():
        yield f"{name} of a wrong type", valid | {name: [{"surprise": []}]}
        for told, value in _beyond(described, types):
            yield f"{name} {told}", valid | {name: value}
    for name in schema.get("required", []):
        yield f"without {name}", {key: value for key, value in valid.items() if key != name}


def _example(schema: dict[str, Any], types: dict[str, Any]) -> Any:
    schema = _resolved(schema, types)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        required = {name: schema["properties"][name] for name in schema.get("required", [])}
        return {name: _VALUES.get(name, _example(part, types)) for name, part in required.items()}
    if schema.get("type") == "string":
        return _text(schema)
    return {"boolean": False, "array": []}.get(str(schema.get("type")), schema.get("minimum", 1))


def _text(schema: dict[str, Any]) -> str:
    pattern = schema.get("pattern", "")
    if pattern.startswith("^[a-z][a-z0-9+.-]*://"):
        return "https://example.org/"
    if "sha256" in pattern:
        return "sha256:" + 64 * "0"
    if "{8}-" in pattern:
        return INSTANCE
    return "x"


def _resolved(schema: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        return _resolved(schema["anyOf"][0], types)
    if "$ref" in schema:
        return _resolved(types[schema["$ref"].removeprefix("#/")], types)
    return schema


def _beyond(schema: dict[str, Any], types: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    schema = _resolved(schema, types)
    yield from _numbers_beyond(schema)
    if "maxLength" in schema:
        yield "too long", "x" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield "too short", ""
    if "pattern" in schema:
        yield "with a line break behind it", _text(schema) + "\n"
    if schema.get("type") == "object" and "properties" in schema:
        for name, part in schema["properties"].items():
            for told, value in _beyond(part, types):
                yield f"with a {name} {told}", _example(schema, types) | {name: value}
        yield "with an unknown field", _example(schema, types) | {"surprise": 1}


def _numbers_beyond(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    step = schema.get("multipleOf", 1)
    if "maximum" in schema:
        yield "above its maximum", schema["maximum"] + step
    if "minimum" in schema:
        yield "below its minimum", schema["minimum"] - step
    if "exclusiveMinimum" in schema:
        yield "at its excluded minimum", schema["exclusiveMinimum"]
    if step > 1:
        yield "not a multiple", schema.get("minimum", 0) + step + 1
