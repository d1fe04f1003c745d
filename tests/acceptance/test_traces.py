"""One trace from an API call to the hypervisor, through a real manager, RabbitMQ and a real worker, seen by an OTLP receiver."""

import http.server
import json
import re
import secrets
import threading
import urllib.error
import urllib.request

import pytest
from acceptance.estate import CLUSTER, spec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.rabbitmq
SECRET = "correct horse battery staple"


class Receiver:
    """Takes OTLP over HTTP on loopback and keeps every span with its process's name."""

    def __init__(self):
        self.spans = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    service = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
                    for scope in resource.scope_spans:
                        receiver.spans += [(service, span) for span in scope.spans]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, trace):
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace]


@pytest.fixture(scope="module")
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture
def site(make_estate, receiver):
    estate = make_estate(options={"FEDERATION_TRACING_ENDPOINT": receiver.url, "FEDERATION_API_LISTEN": "127.0.0.1:0"})
    estate.start("w1", pace=0.2, partitions=2)
    return estate


def post(estate, token, path, body, **headers):
    address = re.findall(r"REST API on (\S+)", estate.log("manager"))[0]
    request = urllib.request.Request(
        f"{address}{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        pytest.fail(error.read().decode())


def token_of(estate):
    made = estate.run("token", "create", "tracer", "--role", "operator")
    assert made.returncode == 0, made.stderr
    return re.search(r"fed_\S+", made.stdout)[0]


def test_an_api_call_is_one_trace_down_to_the_hypervisor(site, receiver):
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    body = {"cluster": CLUSTER, "spec": {**spec("traced"), "guest": {"user_data": SECRET}}}
    made = post(site, token_of(site), "/v1/instances", body, traceparent=f"00-{trace}-{caller}-01")
    assert site.settle(made)["state"] == "succeeded"
    wanted = {"POST /v1/instances", "submit create", "publish create", "question", "driver create", "hypervisor create"}
    site.until(lambda: wanted <= {span.name for _, span in receiver.of(trace)}, 30)
    spans = receiver.of(trace)
    by_id = {span.span_id: span for _, span in spans}
    parents = {span.name: by_id[span.parent_span_id].name for _, span in spans if span.parent_span_id in by_id}
    assert parents["submit create"] == "POST /v1/instances"
    assert parents["publish create"] == parents["question"] == parents["driver create"] == "submit create"
    assert parents["hypervisor create"] == "driver create"
    (root,) = [span for _, span in spans if span.name == "POST /v1/instances"]
    assert root.parent_span_id.hex() == caller, "the caller's own trace goes on"
    services = {span.name: service for service, span in spans}
    assert services["publish create"] == "federation-manager"
    assert services["question"] == services["driver create"] == "federation-worker"
    (driver,) = [span for _, span in spans if span.name == "driver create"]
    told = {a.key: a.value.string_value or a.value.int_value for a in driver.attributes}
    assert (told["federation.operation"], told["federation.end"]) == (made["id"], "succeeded")
    assert (told["federation.worker"], told["federation.attempt"]) == ("w1", 1)
    for _, span in receiver.spans:
        assert SECRET not in str(span)


def test_a_caller_without_a_trace_gets_one_and_one_that_cannot_be_read_harms_nothing(site, receiver):
    token = token_of(site)
    begun = len(receiver.spans)
    for number, header in enumerate(("", "00-zz-11-01", "x" * 5000)):
        headers = {"traceparent": header} if header else {}
        made = post(site, token, "/v1/instances", {"cluster": CLUSTER, "spec": spec(f"plain-{number}")}, **headers)
        assert site.settle(made)["state"] == "succeeded"

    def whole():
        drivers = {span.trace_id for _, span in receiver.spans[begun:] if span.name == "driver create"}
        requests = {span.trace_id for _, span in receiver.spans[begun:] if span.name == "POST /v1/instances"}
        return len(drivers & requests) == 3

    site.until(whole, 30)
