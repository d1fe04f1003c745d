"""docs/reference/asyncapi.json: what travels between manager and worker, as an AsyncAPI 3.0 document.

``python -m federation.cli.asyncapi`` writes it.  The application that it describes is a worker: it receives commands and
queries, sends results, and calls the manager to be admitted.  Everything in it is taken from the declarations: operations from
the contract, envelopes from the protocol, exchanges and queues from the bus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from federation.bus.envelope_codec import ANSWER_TARGET, COMMAND_TARGET, HEADER_PREFIX, RESULT_TARGET
from federation.bus.oslo.body import VERSION as BODY_VERSION
from federation.bus.rpc import VERSION as DOOR_VERSION
from federation.cli.asyncapi_channels import AMQP_BINDING, channels
from federation.cli.asyncapi_schemas import (
    Schema,
    header_fields,
    reference,
    rpc_body,
    schemas_of,
    table,
    without_tag,
)
from federation.contract.operations import DECLARED, Lane, Operation
from federation.contract.release import CURRENT
from federation.protocol.admission import Admission, Announcement, Departure, Heartbeat, HeartbeatAnswer
from federation.protocol.envelope import Answer, Command, Progress, Question, Report
from federation.protocol.queries import QueryReply

PAGE = Path("docs/reference/asyncapi.json")
_RESULTS: dict[str, type[msgspec.Struct]] = {"question": Question, "outcome": Report, "progress": Progress}
_CALLS: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct] | None, str]] = {
    "admit": (Announcement, Admission, "Ask to join the cluster; consume nothing before the answer."),
    "heartbeat": (Heartbeat, HeartbeatAnswer, "Say that the worker lives."),
    "leave": (Departure, None, "Say that the worker leaves."),
}
_BOTH_WAYS = "correlationId"
_HEADERS = "CommandHeaders"


def document() -> dict[str, Any]:
    """The document as data."""
    messages = {name: message for part in (_commands(), _queries(), _protocol(), _calls()) for name, message in part}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "driver-federation: between manager and worker",
            "version": str(CURRENT),
            "description": "Bodies are msgpack; the schemas describe what they decode to. `reply_to`, `correlation_id` and "
            "`message_id` are AMQP properties.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "channels": {name: channel.rendered(_carried(name, messages)) for name, channel in channels().items()},
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": _schemas(),
            "correlationIds": {_BOTH_WAYS: {"location": "$message.header#/correlation_id"}},
        },
    }  # fmt: skip


def text() -> str:
    """The document as it is written."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _schemas() -> dict[str, Schema]:
    kinds: list[type[msgspec.Struct]] = [kind for each in DECLARED for kind in (each.request, each.result)]
    envelopes: list[type[msgspec.Struct]] = [Command, *_RESULTS.values(), Answer, QueryReply]
    calls = [kind for request, reply, _ in _CALLS.values() for kind in (request, reply) if kind is not None]
    schemas = schemas_of([*kinds, *envelopes, *calls])
    for kind in _RESULTS.values():
        schemas[kind.__name__] = without_tag(schemas[kind.__name__])
    schemas[_HEADERS] = header_fields(schemas.pop(Command.__name__), HEADER_PREFIX, "arguments")
    return schemas


def _commands() -> Iterable[tuple[str, Schema]]:
    release = {"type": "string", "pattern": "^[0-9]+\\.[0-9]+$", "description": "The contract release that is spoken."}
    for operation in _on(Lane.ORDERED):
        body = rpc_body(operation.name, reference(operation.request), COMMAND_TARGET.namespace, release)
        fixed = {
            f"{HEADER_PREFIX}name": {"const": operation.name},
            f"{HEADER_PREFIX}revision": {"const": operation.revision},
        }
        headers = {"type": "object", "allOf": [{"$ref": f"#/components/schemas/{_HEADERS}"}, {"properties": fixed}]}
        deprecated = operation.deprecated is not None
        yield _id(operation), _message(_id(operation), operation.summary, body, headers, deprecated=deprecated)


def _queries() -> Iterable[tuple[str, Schema]]:
    for operation in _on(Lane.QUERY):
        asked = table(
            {
                "name": {"const": operation.name},
                "revision": {"const": operation.revision},
                "arguments": reference(operation.request),
            }
        )
        body = _request("query", asked)
        deprecated = operation.deprecated is not None
        yield _id(operation), _message(_id(operation), operation.summary, body, deprecated=deprecated)
        name = f"{_id(operation)}.reply"
        yield name, _message(name, f"What {operation.name} answers.", _reply(reference(operation.result)))


def _protocol() -> Iterable[tuple[str, Schema]]:
    for name, kind in _RESULTS.items():
        body = rpc_body(name, reference(kind), RESULT_TARGET.namespace, {"const": RESULT_TARGET.version})
        yield name, _message(name, _first_line(kind), body)
    body = rpc_body("answer", reference(Answer), ANSWER_TARGET.namespace, {"const": ANSWER_TARGET.version})
    yield "answer", _message("answer", _first_line(Answer), body)


def _calls() -> Iterable[tuple[str, Schema]]:
    for name, (request, reply, summary) in _CALLS.items():
        yield name, _message(name, summary, _request(name, reference(request)))
        value = {"type": "null"} if reply is None else reference(reply)
        yield f"{name}.reply", _message(f"{name}.reply", f"The answer to {name}.", _reply(table({"value": value})))


def _request(use_case: str, arguments: Schema) -> Schema:
    """The body of a call through a door (``federation.bus.rpc``)."""
    args = table({"use_case": {"const": use_case}, "arguments": arguments})
    message = rpc_body("invoke", args, None, {"const": DOOR_VERSION})
    return table({"v": {"const": BODY_VERSION}, "ctxt": {"type": "object"}, "msg": message})


def _reply(result: Schema) -> Schema:
    """The body of a door's reply: a result or an error of the catalogue; a failure says that the door itself broke."""
    answered = table({"result": {"anyOf": [result, {"type": "null"}]}, "error": _error_or_null()})
    version = {"v": {"const": BODY_VERSION}}
    return {"oneOf": [table({**version, "result": answered}), table({**version, "failure": {"type": "string"}})]}


def _error_or_null() -> Schema:
    return {"anyOf": [{"$ref": "#/components/schemas/QueryError"}, {"type": "null"}]}


def _message(
    name: str, summary: str, payload: Schema, headers: Schema | None = None, *, deprecated: bool = False
) -> Schema:
    made: Schema = {"name": name, "summary": summary, "contentType": "application/msgpack", "payload": payload}
    if headers is not None:
        made["headers"] = headers
    if "v" in payload.get("properties", {}) or "oneOf" in payload:
        made["correlationId"] = {"$ref": f"#/components/correlationIds/{_BOTH_WAYS}"}
    if deprecated:
        made["x-deprecated"] = True
    return made


def _carried(channel: str, messages: dict[str, Schema]) -> list[str]:
    commands = [_id(operation) for operation in _on(Lane.ORDERED)]
    return {
        "commands": commands,
        "queries": [_id(operation) for operation in _on(Lane.QUERY)],
        "results": list(_RESULTS),
        "answers": ["answer"],
        "dead": [*commands, *_RESULTS],
        "admission": list(_CALLS),
        "replies": [name for name in messages if name.endswith(".reply")],
    }[channel]


def _operations() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for operation in DECLARED:
        query = operation.lane is Lane.QUERY
        channel = "queries" if query else "commands"
        made[_id(operation)] = {
            **_operation("receive", channel, [_id(operation)], operation.summary, persistent=True, ack=True),
            "tags": [{"name": operation.group}],
            **(_replied(_id(operation)) if query else {}),
            "x-declared": _declared(operation),
        }
    for name, kind in _RESULTS.items():
        lasting = kind is Report
        made[name] = _operation("send", "results", [name], _first_line(kind), persistent=lasting, mandatory=lasting)
    made["answer"] = _operation("receive", "answers", ["answer"], _first_line(Answer), persistent=False, ack=False)
    for name, (_, _, summary) in _CALLS.items():
        made[name] = {**_operation("send", "admission", [name], summary, persistent=True), **_replied(name)}
    return made


def _operation(
    action: str, channel: str, messages: list[str], summary: str, *, persistent: bool,
    mandatory: bool | None = None, ack: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    given = {"deliveryMode": 2 if persistent else 1, "mandatory": mandatory, "ack": ack, "bindingVersion": AMQP_BINDING}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
        "bindings": {"amqp": {name: value for name, value in given.items() if value is not None}},
    }


def _replied(name: str) -> dict[str, Any]:
    return {
        "reply": {
            "address": {"location": "$message.header#/reply_to", "description": "The AMQP property reply_to."},
            "channel": {"$ref": "#/channels/replies"},
            "messages": [{"$ref": f"#/channels/replies/messages/{name}.reply"}],
        }
    }


def _declared(operation: Operation) -> dict[str, Any]:
    return {
        "revision": operation.revision,
        "since": operation.since,
        "ordering": operation.ordering and str(operation.ordering),
        "convergence": str(operation.convergence),
        "capability": operation.capability and str(operation.capability),
        "defaultDeadlineSeconds": operation.default_deadline_seconds,
        "result": reference(operation.result),
        "errors": sorted(operation.errors),
        "deprecated": operation.deprecated
        and f"since {operation.deprecated.since}, gone in {operation.deprecated.removal}",
    }


def _on(lane: Lane) -> list[Operation]:
    return [operation for operation in DECLARED if operation.lane is lane]


def _id(operation: Operation) -> str:
    return operation.name if operation.revision == 1 else f"{operation.name}.{operation.revision}"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
