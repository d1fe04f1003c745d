"""The protocol's messages on the wire: oslo.messaging's RPC form in the body, the protocol's facts in AMQP headers.

Every body is ``{"method", "args", "namespace", "version"}``, and namespace and version are checked by the rules of
oslo.messaging's own dispatcher.  A command's namespace is ``federation.driver`` and its version the contract release;
results and answers have namespaces and one version of their own, which moves when a field's meaning does.  The facts
of a command that the protocol decides by (operation, key, sequence, round…) are headers, so that they survive a body
that cannot be read, and dead-lettering.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from federation.bus import codec
from federation.bus.errors import BadMessage, BodyTooLarge
from federation.bus.link import Delivery, Publication
from federation.bus.threads_only import RPCDispatcher, Target
from federation.bus.topology import COMMANDS, RESULTS, answers_exchange, command_key, read_result_key, result_key
from federation.contract.release import CURRENT
from federation.protocol.envelope import Answer, Command, Progress, Question, Report, Result

HEADER_PREFIX = "federation-"
COMMAND_TARGET = Target(namespace="federation.driver", version=str(CURRENT))
RESULT_TARGET = Target(namespace="federation.results", version="1.0")
ANSWER_TARGET = Target(namespace="federation.answers", version="1.0")

_METHODS: Mapping[type, str] = {Question: "question", Report: "outcome", Progress: "progress", Answer: "answer"}
_RESULTS: Mapping[str, type[Result]] = {"question": Question, "outcome": Report, "progress": Progress}
_FACTS = tuple(name for name in Command.__struct_fields__ if name != "arguments")
_LOWEST = {"revision": 1, "epoch": 0, "partition": 0, "sequence": 1, "round": 1}
_HEADER_OF = {name: HEADER_PREFIX + name for name in _FACTS}
_FACT_OF = {header: name for name, header in _HEADER_OF.items()}


def encode_command(command: Command, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES) -> Publication:
    """The publication of one copy of a command; raises CannotEncode or BodyTooLarge."""
    body = {
        "method": command.name,
        "args": command.arguments,
        "namespace": COMMAND_TARGET.namespace,
        "version": command.release,
    }
    headers = {}
    for name, header in _HEADER_OF.items():
        value = getattr(command, name)
        if value is not None:
            headers[header] = value
    return Publication(
        COMMANDS.name,
        command_key(command.cluster, command.epoch, command.partition),
        codec.encode(body, limit_bytes),
        headers,
        message_id=f"{command.operation}.{command.round}",
    )


def decode_command(
    delivery: Delivery, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES
) -> tuple[Command | None, str | None]:
    """The command of a delivery, and what is wrong with it, if anything.

    A body that cannot be used gives the command with empty arguments and the error; headers that cannot be used give no
    command.  This never raises.
    """
    try:
        command = read_facts(delivery.headers)
    except BadMessage as error:
        return None, str(error)
    try:
        method, arguments = _read_body(delivery.body, COMMAND_TARGET, limit_bytes, version=command.release)
    except (BadMessage, BodyTooLarge) as error:
        return command, str(error)
    if method != command.name:
        return command, f"the body calls {method!r} and the headers {command.name!r}"
    return msgspec.structs.replace(command, arguments=arguments), None


def read_facts(headers: Mapping[str, object]) -> Command:
    """The command that the headers tell of, without its arguments; raises BadMessage naming the header at fault."""
    facts: dict[str, Any] = {_FACT_OF[name]: value for name, value in headers.items() if name in _FACT_OF}
    facts["arguments"] = {}
    facts.setdefault("deadline", None)
    try:
        command = msgspec.convert(facts, Command)
    except msgspec.ValidationError as error:
        raise BadMessage(f"the headers {HEADER_PREFIX}… are no command's: {error}") from error
    for name, lowest in _LOWEST.items():
        if getattr(command, name) < lowest:
            raise BadMessage(f"header {HEADER_PREFIX}{name} is {getattr(command, name)}, below {lowest}")
    if command.deadline is not None and not math.isfinite(command.deadline):
        raise BadMessage(f"header {HEADER_PREFIX}deadline is {command.deadline}")
    return command


def encode_result(result: Result, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES) -> Publication:
    """The publication of a question, outcome or progress; raises CannotEncode or BodyTooLarge."""
    report = isinstance(result, Report)
    return Publication(
        RESULTS.name,
        result_key(result.cluster, result.partition),
        _encode_struct(result, RESULT_TARGET, limit_bytes),
        persistent=report,
        mandatory=report,
    )


def decode_result(delivery: Delivery, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES) -> Result:
    """The question, outcome or progress of a delivery; raises BadMessage or BodyTooLarge.

    The routing key is what the broker's permissions confine a worker by, so a body that speaks for another cluster or
    partition than its routing key is refused.
    """
    method, arguments = _read_body(delivery.body, RESULT_TARGET, limit_bytes)
    kind = _RESULTS.get(method)
    if kind is None:
        raise BadMessage(f"there is no result called {method!r}, only {', '.join(_RESULTS)}")
    result: Result = _convert(arguments, kind)
    if read_result_key(delivery.routing_key) != (result.cluster, result.partition):
        raise BadMessage(
            f"the body speaks for cluster {result.cluster!r}, partition {result.partition}, "
            f"and came by the routing key {delivery.routing_key!r}"
        )
    return result


def encode_answer(
    cluster: str, worker: str, answer: Answer, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES
) -> Publication:
    """The publication of an answer to a worker; raises CannotEncode or BodyTooLarge."""
    body = _encode_struct(answer, ANSWER_TARGET, limit_bytes)
    return Publication(answers_exchange(cluster).name, worker, body, persistent=False, mandatory=False)


def decode_answer(delivery: Delivery, limit_bytes: int = codec.DEFAULT_LIMIT_BYTES) -> Answer:
    """The answer of a delivery; raises BadMessage or BodyTooLarge."""
    method, arguments = _read_body(delivery.body, ANSWER_TARGET, limit_bytes)
    if method != "answer":
        raise BadMessage(f"there is no answer called {method!r}")
    answer: Answer = _convert(arguments, Answer)
    return answer


def _encode_struct(value: Result | Answer, target: Target, limit_bytes: int) -> bytes:
    arguments: dict[str, Any] = msgspec.to_builtins(value)
    arguments.pop("type", None)
    body = {
        "method": _METHODS[type(value)],
        "args": arguments,
        "namespace": target.namespace,
        "version": target.version,
    }
    return codec.encode(body, limit_bytes)


def _convert(arguments: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise BadMessage(f"the body is no {_METHODS[kind]}: {error}") from error


def _read_body(body: bytes, target: Target, limit_bytes: int, version: str | None = None) -> tuple[str, dict[str, Any]]:
    """(method, arguments) of a body in RPC form for ``target``; ``version`` is what the headers say, if they do."""
    message = codec.decode(body, limit_bytes)
    if not isinstance(message, dict):
        raise BadMessage(f"the body is {type(message).__name__}, not a map")
    method, arguments = message.get("method"), message.get("args")
    if not isinstance(method, str):
        raise BadMessage(f"'method' is {type(method).__name__}, not a string")
    if not isinstance(arguments, dict):
        raise BadMessage(f"'args' is {type(arguments).__name__}, not a map")
    check_target(target, message.get("namespace"), message.get("version"))
    if version is not None and message["version"] != version:
        raise BadMessage(f"the body is of version {message['version']} and the headers say {version}")
    return method, arguments


def check_target(target: Target, namespace: object, version: object) -> None:
    """oslo.messaging's rules of dispatch: the namespace is accepted, the version served; raises BadMessage."""
    if not RPCDispatcher._is_namespace(target, namespace):  # noqa: SLF001  # the dispatcher's own rule, not a copy of it
        raise BadMessage(f"the namespace is {namespace!r}, not {target.namespace!r}")
    if not isinstance(version, str):
        raise BadMessage(f"'version' is {type(version).__name__}, not a string")
    try:
        compatible = RPCDispatcher._is_compatible(target, version)  # noqa: SLF001
    except (ValueError, IndexError) as error:
        raise BadMessage(f"{version!r} is not a version") from error
    if not compatible:
        raise BadMessage(f"version {version} of {target.namespace} is not served here, only {target.version}")
