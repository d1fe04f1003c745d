"""Schemas of the AsyncAPI document: our types and the bodies around them, in the dialect that AsyncAPI 3.0 speaks.

msgspec writes JSON Schema 2020-12; AsyncAPI's own schema object is draft 07 with a ``discriminator`` that is a field's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

Schema = dict[str, Any]
_LITERAL = frozenset({"default", "enum", "const", "required"})


def schemas_of(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """By name: the schemas of these types and of all that they are made of."""
    _, components = msgspec.json.schema_components(
        kinds, schema_hook=_anything, ref_template="#/components/schemas/{name}"
    )
    return {name: _converted(schema) for name, schema in sorted(components.items())}


def reference(kind: type) -> Schema:
    """A reference to a type's schema."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def without_tag(schema: Schema) -> Schema:
    """The schema without msgspec's tag, which does not travel where the method says the same."""
    fields = {name: field for name, field in schema["properties"].items() if name != "type"}
    return {**schema, "properties": fields, "required": [name for name in schema["required"] if name != "type"]}


def table(fields: Mapping[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """A map with these fields and no others."""
    left_out = set(optional)
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in left_out],
        "additionalProperties": False,
    }


def rpc_body(method: str, arguments: Schema, namespace: str | None, version: Schema) -> Schema:
    """oslo.messaging's RPC form; without a namespace there is no such field."""
    fields: dict[str, Schema] = {"method": {"const": method}, "args": arguments, "version": version}
    if namespace is not None:
        fields["namespace"] = {"const": namespace}
    return table(fields)


def header_fields(schema: Schema, prefix: str, left_out: str) -> Schema:
    """A struct's fields as AMQP headers: those that are null are not there."""
    fields: dict[str, Schema] = {}
    for name, field in schema["properties"].items():
        if name != left_out:
            parts = [part for part in field.get("anyOf", [field]) if part.get("type") != "null"]
            fields[prefix + name] = {key: value for key, value in parts[0].items() if key != "default"}
    optional = [
        prefix + name for name, field in schema["properties"].items() if {"type": "null"} in field.get("anyOf", ())
    ]
    # Brokers add headers of their own (x-delivery-count, x-death).
    return {**table(fields, optional), "additionalProperties": True}


def _anything(kind: type) -> Schema:
    if kind is not object:
        raise TypeError(f"{kind.__name__} has no schema")
    return {"description": "Anything that msgpack carries."}


def _converted(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_converted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: part if name in _LITERAL else _converted_part(name, part) for name, part in schema.items()}
    if "prefixItems" in made:
        made["additionalItems"], made["items"] = made.get("items", True), made.pop("prefixItems")
    if "discriminator" in made:
        made["discriminator"] = made["discriminator"]["propertyName"]
    if "since" in made:
        made["x-since"] = made.pop("since")
    if "$ref" in made and len(made) > 1:
        # Draft 07 does not look beside a reference.
        made = {"allOf": [{"$ref": made.pop("$ref")}], **made}
    return made


def _converted_part(name: str, part: Any) -> Any:
    if name == "properties":
        return {field: _converted(schema) for field, schema in part.items()}
    return _converted(part)
