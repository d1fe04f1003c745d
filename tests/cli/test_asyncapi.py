"""The AsyncAPI document is valid, and says what really travels."""

import copy
import json
import queue
import threading
import uuid
from pathlib import Path

import jsonschema
import msgspec
import pytest

from federation.bootstrap.topics import query_topic
from federation.bus import codec, topology
from federation.bus.connect import open_link
from federation.bus.envelope_codec import encode_answer, encode_command, encode_result
from federation.bus.link import Consumption, Exchange, Queue
from federation.bus.oslo.body import encode_reply
from federation.bus.rpc import Rpc
from federation.cli.asyncapi import PAGE, document, text
from federation.contract.errors import Unavailable
from federation.contract.nodes import NodeList
from federation.contract.operations import DECLARED, Lane
from federation.contract.outcomes import Outcome, OutcomeKind
from federation.contract.release import CURRENT
from federation.protocol.envelope import Answer, Command, Progress, Question, Report
from federation.protocol.queries import QueryError, QueryReply

HERE = Path(__file__).parent
SCHEMA = json.loads((HERE / "asyncapi_schema/3.0.0.json").read_text())
DOCUMENT = document()
WHERE = {"worker": "w", "cluster": "lab", "partition": 3, "operation": "o", "key": "k"}


def faults(schema, value):
    """What is wrong with a value, by a schema that may refer to the document's others."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in jsonschema.Draft7Validator(whole).iter_errors(value)]


def command(**changes):
    facts = {
        "operation": "o", "name": "power_off", "revision": 1, "release": str(CURRENT), "cluster": "lab", "epoch": 1, "partition": 3,
        "key": "k", "sequence": 1, "round": 1, "deadline": None,
        "arguments": {"instance": str(uuid.UUID(int=7)), "mode": "hard", "timeout_seconds": 30.0},
    }  # fmt: skip
    return encode_command(Command(**{**facts, **changes}))


def message(name):
    return DOCUMENT["components"]["messages"][name]


def test_the_file_is_what_the_declarations_say():
    assert (HERE.parents[1] / PAGE).read_text() == text(), "run: python -m federation.cli.asyncapi"


def test_the_document_keeps_asyncapi_s_own_schema():
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert list(validator.iter_errors(DOCUMENT)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["operations"]["create"].update(action="obey"),
        lambda d: d["channels"]["commands"]["bindings"]["amqp"]["exchange"].update(type="headless"),
        lambda d: d.update(asyncapi="3.0"),
        lambda d: d["components"]["messages"]["create"].update(body={}),
    ],
)
def test_the_schema_refuses_what_is_no_asyncapi(spoil):
    spoiled = copy.deepcopy(DOCUMENT)
    spoil(spoiled)
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(spoiled)) != []


def references(part):
    if isinstance(part, dict):
        yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def test_every_reference_leads_somewhere():
    for reference in set(references(DOCUMENT)):
        found = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, reference
            found = found[step]


def test_every_operation_of_the_contract_is_received_on_its_lane():
    for operation in DECLARED:
        made = DOCUMENT["operations"][
            operation.name if operation.revision == 1 else f"{operation.name}.{operation.revision}"
        ]
        assert made["action"] == "receive"
        is_query = operation.lane is Lane.QUERY
        assert made["channel"]["$ref"] == ("#/channels/queries" if is_query else "#/channels/commands")
        assert ("reply" in made) is is_query


def test_exchanges_and_queues_are_the_bus_s_own():
    declared = {e.name: e.kind for e in topology.shared_items() if isinstance(e, Exchange)}
    described = {
        channel["bindings"]["amqp"]["exchange"]["name"]: channel["bindings"]["amqp"]["exchange"]["type"]
        for channel in DOCUMENT["channels"].values()
    }
    assert declared.items() <= described.items()
    commands = DOCUMENT["channels"]["commands"]
    (queue_, *_) = [q for q in topology.cluster_items("lab", 2, 4) if isinstance(q, Queue) and q.name.endswith("p3")]
    place = {"cluster": "lab", "epoch": 2, "partition": 3}
    assert commands["x-queue"]["name"].format(**place) == queue_.name
    assert commands["x-queue"]["arguments"] == queue_.arguments
    assert commands["address"].format(**place) == topology.command_key("lab", 2, 3)
    assert DOCUMENT["channels"]["results"]["address"].format(**place) == topology.result_key("lab", 3)


def test_a_command_on_the_wire_is_what_the_document_says():
    sent = command()
    assert faults(message("power_off")["payload"], codec.decode(sent.body)) == []
    assert faults(message("power_off")["headers"], dict(sent.headers)) == []
    late = command(deadline=1.5, trace="t")
    assert faults(message("power_off")["headers"], dict(late.headers)) == []


def test_the_document_refuses_a_command_that_the_worker_would_refuse():
    payload, headers = message("power_off")["payload"], message("power_off")["headers"]
    wrong = codec.decode(command(arguments={"instance": "x", "mode": "gentle", "more": 1}).body)
    assert len(faults(payload, wrong)) == 3
    assert faults(payload, codec.decode(command(name="power_on").body)) != []
    assert faults(headers, {**command().headers, "federation-revision": 2}) != []
    assert faults(headers, {name: v for name, v in command().headers.items() if name != "federation-key"}) != []


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("question", Question(id="q", sequence=1, round=1, delivery_count=0, **WHERE)),
        ("progress", Progress(attempt=1, percent=5.0, stage="copying", **WHERE)),
        (
            "outcome",
            Report(sequence=1, attempt=1, outcome=Outcome(kind=OutcomeKind.SUCCEEDED, result={"id": 1}), **WHERE),
        ),
    ],
)
def test_a_result_on_the_wire_is_what_the_document_says(name, sent):
    publication = encode_result(sent)
    assert faults(message(name)["payload"], codec.decode(publication.body)) == []
    amqp = DOCUMENT["operations"][name]["bindings"]["amqp"]
    assert (amqp["deliveryMode"] == 2, amqp["mandatory"]) == (publication.persistent, publication.mandatory)


def test_an_answer_on_the_wire_is_what_the_document_says():
    sent = encode_answer("lab", "w", Answer(question="q", operation="o", key="k", verdict="grant", attempt=1))
    assert faults(message("answer")["payload"], codec.decode(sent.body)) == []
    odd = {**codec.decode(sent.body), "namespace": "federation.results"}
    assert faults(message("answer")["payload"], odd) != []


def test_a_query_on_the_wire_is_what_the_document_says():
    url, channel = f"federation+memory://{uuid.uuid4()}", DOCUMENT["channels"]["queries"]
    seen = queue.SimpleQueue()
    rpc = Rpc(url)
    link = open_link(url, "observer")
    link.start(10.0)
    try:
        rpc.serve(query_topic("lab"), "w", lambda *_: {})
        rpc.stop_serving()
        link.subscribe([Consumption(channel["x-queue"]["name"].format(cluster="lab"), no_ack=True)], 1, seen.put)
        asked = {"name": "list_nodes", "revision": 1, "arguments": {}}

        def ask():
            with pytest.raises(Unavailable):
                rpc.call(query_topic("lab"), "query", asked, 0.5)

        caller = threading.Thread(target=ask)
        caller.start()
        delivery = seen.get(timeout=10)
        caller.join(10)
    finally:
        rpc.close()
        link.close(5.0)
    assert delivery.routing_key == channel["address"].format(cluster="lab")
    assert faults(message("list_nodes")["payload"], codec.decode(delivery.body)) == []
    assert delivery.reply_to
    assert delivery.correlation_id


@pytest.mark.parametrize(
    "reply",
    [
        QueryReply(result=msgspec.to_builtins(NodeList(nodes=()))),
        QueryReply(error=QueryError(code="timed_out", message="too late")),
    ],
)
def test_a_reply_on_the_wire_is_what_the_document_says(reply):
    sent = codec.decode(encode_reply(msgspec.to_builtins(reply), 1 << 20))
    assert faults(message("list_nodes.reply")["payload"], sent) == []
    assert faults(message("get_instance.reply")["payload"], sent) != [] or reply.error is not None
