"""The OpenAPI 3.1 document, made from the routes and from msgspec's JSON Schema of their types: nothing is written twice."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api.handling import KEY_PATTERN
from federation.api.problems import MEDIA_TYPE, STATUS, Problem
from federation.api.routes import PATH_TYPES, READS_ONE, Query, Route
from federation.contract.errors import OperationError
from federation.contract.fields import END
from federation.protocol.records import OperationRecord, Role

Schema = dict[str, Any]


class Followed(Query, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to follow."""

    seconds: Annotated[
        float, Meta(gt=0, le=3600, description="The stream ends after so many seconds at the latest.")
    ] = 900


def _never(_: object) -> None:
    raise OperationError("events are streamed by the application")


EVENTS = Route(
    method="GET",
    path="/v1/operations/{operation}/events",
    name="follow_operation",
    tag="operations",
    summary="Follow an operation to its outcome, as server-sent events.",
    role=Role.READER,
    reply=str,
    query=Followed,
    codes=READS_ONE,
    work=_never,
)
_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
_REQUEST_ID = {"description": "Finds the request in the manager's log.", "required": True, "schema": {"type": "string"}}
_ABOUT = """Every answer bears `X-Request-Id`; a request may bring its own. A POST may bear an `Idempotency-Key`: repeated
within a day with the same token and request, it is answered as it was and nothing is done again. Changes answer 202 with
the operation, which then goes its way: follow it by its event stream."""


def openapi_document(routes: Iterable[Route], max_body_bytes: int) -> Schema:
    """The document of these routes, the event stream and the health pages."""
    every = [*routes, EVENTS]
    schemas = _Schemas(every)
    paths: dict[str, Schema] = {}
    for route in every:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, max_body_bytes)
    for path in ("/health/live", "/health/ready"):
        paths[path] = {"get": _health(path, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "driver-federation",
            "version": importlib.metadata.version("driver-federation"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": {"RequestId": _REQUEST_ID},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The schemas of all types of some routes."""

    def __init__(self, routes: list[Route]) -> None:
        kinds: dict[Any, None] = {Problem: None}
        for route in routes:
            for kind in (route.query, route.body, route.reply, *(PATH_TYPES[name] for name in route.path_variables())):
                if kind is not None:
                    kinds[kind] = None
        self._kinds = list(kinds)
        made, components = msgspec.json.schema_components(
            self._kinds, ref_template="#/components/schemas/{name}", schema_hook=_anything
        )
        self._made = [_tidy(schema) for schema in made]
        queries = {_name_of(kind) for kind in self._kinds if isinstance(kind, type) and issubclass(kind, Query)}
        self._all: dict[str, Schema] = {name: _tidy(schema) for name, schema in sorted(components.items())}
        self.components = {name: schema for name, schema in self._all.items() if name not in queries}

    def of(self, kind: Any) -> Schema:
        made: Schema = self._made[self._kinds.index(kind)]
        return made

    def fields_of(self, query: type[msgspec.Struct]) -> tuple[dict[str, Schema], list[str]]:
        """A query's fields with their schemas, and which of them are required."""
        schema = self._all[_name_of(query)]
        return schema["properties"], schema["required"]


def _name_of(kind: type) -> str:
    return kind.__name__


def _anything(kind: type) -> Schema:
    if kind is not object:
        raise TypeError(f"{kind.__name__} has no schema")
    return {"description": "Anything."}


def _tidy(schema: Any) -> Any:
    """Keywords of our own become extensions; the rest is JSON Schema 2020-12 already."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: part if name in {"default", "enum", "const"} else _tidy(part) for name, part in schema.items()}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace(END, "$")  # in the document's dialect it means the same
    if isinstance(made.get("since"), str):
        made["x-since"] = made.pop("since")
    return made


def _operation(route: Route, schemas: _Schemas, max_body_bytes: int) -> Schema:
    made: Schema = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"Needs the role `{route.role}`." if route.role else "Needs no token.",
        "security": [{"token": []}],
        "parameters": [*_path_parameters(route, schemas), *_query_parameters(route, schemas)],
        "responses": _responses(route, schemas),
    }
    if route.method == "POST":
        made["parameters"].append(_KEY_PARAMETER)
    if route is EVENTS:
        made["parameters"].append(_SEEN_PARAMETER)
    if route.body is not None:
        made["requestBody"] = _request_body(route.body, schemas, max_body_bytes)
    return made


_KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Done once for a key, a token and a request, however often it is sent within a day.",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}

_SEEN_PARAMETER = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Id of the last event of an earlier stream; if nothing has changed since, it is not told again.",
    "schema": {"type": "string"},
}


def _request_body(body: type[msgspec.Struct], schemas: _Schemas, max_body_bytes: int) -> Schema:
    return {
        "required": any(field.required for field in msgspec.structs.fields(body)),
        "description": f"At most {max_body_bytes} bytes.",
        "content": {"application/json": {"schema": schemas.of(body)}},
    }


def _path_parameters(route: Route, schemas: _Schemas) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(PATH_TYPES[name])}
        for name in route.path_variables()
    ]


def _query_parameters(route: Route, schemas: _Schemas) -> list[Schema]:
    fields, required = schemas.fields_of(route.query)
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(schema)}
        for name, schema in fields.items()
    ]


def _without_null(schema: Schema) -> Schema:
    """A parameter that is not there is null; none is written so."""
    parts = [part for part in schema.get("anyOf", []) if part != {"type": "null"}]
    if not parts:
        return schema
    rest = {name: part for name, part in schema.items() if name != "anyOf" and (name, part) != ("default", None)}
    return {**rest, **(parts[0] if len(parts) == 1 else {"anyOf": parts})}


def _responses(route: Route, schemas: _Schemas) -> dict[str, Schema]:
    done: Schema = {"description": "Done." if route.status != HTTPStatus.ACCEPTED else "Accepted.", "headers": _HEADERS}
    if route is EVENTS:
        told = f"Events named `operation`, whose data is {OperationRecord.__name__} as JSON, until it has its outcome."
        done = {**done, "description": told, "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    elif route.reply is not None:
        done["content"] = {"application/json": {"schema": schemas.of(route.reply)}}
    if route.method == "POST":
        done["headers"] = {**_HEADERS, "Idempotency-Replayed": _REPLAYED}
    by_status: dict[int, list[str]] = {400: ["invalid_request"], 401: ["unauthenticated"], 403: ["forbidden"]}
    by_status[503] = ["overloaded"]
    if route.body is not None:
        by_status |= {408: ["request_timeout"], 413: ["too_large"], 415: ["unsupported_media_type"]}
    for code in sorted(route.codes):
        known = by_status.setdefault(STATUS[code], [])
        known += [code] if code not in known else []
    return {str(route.status): done, **{str(s): _problem(c, schemas) for s, c in sorted(by_status.items())}}


_REPLAYED = {"required": False, "description": "Nothing was done again.", "schema": {"const": "true"}}


def _problem(codes: list[str], schemas: _Schemas) -> Schema:
    return {
        "description": f"Not done: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": _HEADERS,
        "content": {MEDIA_TYPE: {"schema": schemas.of(Problem)}},
    }


def _health(path: str, schemas: _Schemas) -> Schema:
    status = path.rpartition("/")[2]
    schema = {"type": "object", "properties": {"status": {"const": status}}, "required": ["status"]}
    responses = {
        "200": {"description": "Yes.", "headers": _HEADERS, "content": {"application/json": {"schema": schema}}}
    }
    if status == "ready":
        responses["503"] = _problem(["unavailable", "overloaded"], schemas)
    return {
        "operationId": f"health_{status}",
        "tags": ["health"],
        "summary": "Whether the process answers." if status == "live" else "Whether store and broker answer.",
        "security": [],
        "responses": responses,
    }
