"""What the REST API does, asked over HTTP of a manager with a worker in a process of its own."""

from __future__ import annotations

import itertools
import json
import threading
import time

import httpx
import pytest
from api.conftest import create, make, settle, spec

from federation.contract.errors import CATALOGUE
from federation.contract.operations import DECLARED

PROBLEM = {"type", "title", "status", "detail", "code", "effect", "next_move", "fields", "request_id"}


def test_an_instance_is_made_operated_and_removed(operator):
    instance = make(operator, "web-1")
    for verb, body in (("pause", {}), ("unpause", {}), ("stop", {"mode": "hard"}), ("start", {})):
        done = settle(operator, operator.post(f"/v1/instances/{instance}/{verb}", json=body).json())
        assert (done["state"], done["key"]) == ("succeeded", instance)
    assert operator.get("/v1/instances/web-1").json()["state"] == "running"
    assert operator.get(f"/v1/instances/{instance}/get").json()["name"] == "web-1"
    gone = operator.post("/v1/instances/web-1/delete")
    assert settle(operator, gone.json())["state"] == "succeeded"
    assert operator.get(f"/v1/instances/{instance}").status_code == 404


def test_a_name_that_looks_like_an_id_is_a_name(operator, admin):
    name = "0b5e1a52-7c1b-4d1c-9a52-6f0f4c1e7a11"
    instance = make(operator, name)
    for client in (operator, admin):
        done = settle(client, client.post(f"/v1/instances/{name}/reboot", json={"mode": "hard"}).json())
        assert (done["state"], done["key"]) == ("succeeded", instance)
    unknown = admin.post("/v1/instances/0b5e1a52-7c1b-4d1c-9a52-6f0f4c1e7a12/reboot", json={"mode": "hard"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


def test_every_declared_operation_is_served(reader):
    paths = reader.get("/openapi.json").json()["paths"]
    served = {operation["operationId"] for path in paths.values() for operation in path.values()}
    assert {operation.name for operation in DECLARED} <= served
    contract = reader.get("/v1/contract").json()
    assert {o["name"] for o in contract["operations"]} == {o.name for o in DECLARED}
    assert {e["code"] for e in contract["errors"]} == set(CATALOGUE)


def test_nodes_are_taken_out_of_service_and_back(operator):
    node = operator.get("/v1/nodes", params={"cluster": "lab"}).json()[0]["name"]
    path = f"/v1/clusters/lab/nodes/{node}"
    for enabled in (True, False):
        asked = operator.post(f"{path}/maintenance", json={"enabled": enabled})
        assert asked.status_code == 202, asked.text
        assert settle(operator, asked.json())["state"] == "succeeded"
        operator.post("/v1/clusters/lab/refresh")
        assert operator.get(path).json()["facts"]["maintenance"] is enabled


def test_figures_tell_what_waits_and_for_whom(reader, operator):
    create(operator, "waits-for-a-worker", "idle")

    def idle():
        return reader.get("/v1/figures", params={"cluster": "idle"}).json()[0]

    deadline = time.monotonic() + 10
    while not idle()["waiting"]:
        assert time.monotonic() < deadline, idle()
        time.sleep(0.05)
    assert (idle()["slots"], idle()["backlog_seconds"]) == (0, None)
    figures = {each["cluster"]: each for each in reader.get("/v1/figures").json()}
    assert figures["lab"]["slots"] > 0
    assert figures["lab"]["backlog_seconds"] is not None
    assert reader.get("/v1/figures", params={"cluster": "nowhere"}).status_code == 404


def test_clusters_are_made_and_removed(admin):
    made = admin.post("/v1/clusters", json={"name": "spare", "driver": "simulated", "partitions": 2})
    assert (made.status_code, made.json()["partitions"]) == (201, 2)
    assert admin.post("/v1/clusters", json={"name": "spare", "driver": "simulated"}).status_code == 409
    assert admin.get("/v1/clusters/spare").json()["operations"] == {"parked": 0}
    assert admin.delete("/v1/clusters/spare").status_code == 204
    assert admin.get("/v1/clusters/spare").status_code == 404


def test_an_operation_is_cancelled_and_says_so(operator):
    queued = create(operator, "cancelled-1", "idle")
    cancelled = operator.post(f"/v1/operations/{queued['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "refused")
    assert cancelled.json()["outcome"]["code"] == "cancelled"
    again = operator.post(f"/v1/operations/{queued['id']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")


def test_pages_hold_everything_once_and_in_order(operator):
    for number in range(5):
        create(operator, f"page-{number}")
    for path, newest_first in (("/v1/instances", False), ("/v1/operations", True)):
        whole = [item["id"] for item in operator.get(path, params={"limit": 1000}).json()["items"]]
        assert whole == sorted(whole, reverse=newest_first)
        paged, cursor = [], None
        while True:
            page = operator.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
            paged += [item["id"] for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert paged == whole
        assert len(whole) >= 5


def test_operations_are_filtered(operator):
    instance = make(operator, "filtered-1")
    settle(operator, operator.post(f"/v1/instances/{instance}/pause").json())
    page = operator.get("/v1/operations", params={"instance": instance, "state": "succeeded", "cluster": "lab"}).json()
    assert [item["name"] for item in page["items"]] == ["pause", "create"]
    assert operator.get("/v1/operations", params={"node": "n"}).status_code == 422


def test_a_stream_tells_an_operation_to_its_outcome(operator):
    operation = create(operator, "streamed-1")
    with operator.stream("GET", f"/v1/operations/{operation['id']}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert lines[0].startswith("id: ")
    assert lines[1] == "event: operation"
    assert events[-1]["state"] == "succeeded"
    assert {event["id"] for event in events} == {operation["id"]}
    assert len(events) >= 2
    assert all(before != after for before, after in itertools.pairwise(events))


def test_a_stream_that_is_taken_up_again_does_not_repeat_what_was_seen(operator):
    queued = create(operator, "resumed-1", "idle")
    path, soon = f"/v1/operations/{queued['id']}/events", {"seconds": 0.5}
    with operator.stream("GET", path, params=soon) as reply:
        (identity,) = (line for line in reply.iter_lines() if line.startswith("id: "))
    seen = {"Last-Event-ID": identity.removeprefix("id: ")}
    with operator.stream("GET", path, params=soon, headers=seen) as reply:
        assert not [line for line in reply.iter_lines() if line.startswith("data: ")]
    operator.post(f"/v1/operations/{queued['id']}/cancel").raise_for_status()
    with operator.stream("GET", path, params=soon, headers=seen) as reply:
        (line,) = (line for line in reply.iter_lines() if line.startswith("data: "))
    assert json.loads(line.removeprefix("data: "))["state"] == "refused"


def test_a_stream_ends_after_the_time_it_was_given(operator):
    queued = create(operator, "waiting-1", "idle")
    with operator.stream("GET", f"/v1/operations/{queued['id']}/events", params={"seconds": 0.5}) as reply:
        (line,) = (line for line in reply.iter_lines() if line.startswith("data: "))
    assert json.loads(line.removeprefix("data: "))["state"] == "queued"


def test_a_hundred_watchers_are_told_the_outcome(installation, operator):
    operation = create(operator, "watched-1")
    told = []

    def watch():
        with httpx.stream(
            "GET",
            f"{installation.address}/v1/operations/{operation['id']}/events",
            headers=operator.headers,
            timeout=60,
        ) as reply:
            last = [line for line in reply.iter_lines() if line.startswith("data: ")][-1]
        told.append(json.loads(last.removeprefix("data: "))["state"])

    threads = [threading.Thread(target=watch) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == ["succeeded"] * 100


def test_a_key_makes_one_operation_however_often_it_is_sent(operator):
    first = create(operator, "once-1", **{"Idempotency-Key": "create once-1"[::-1].replace(" ", "-")})
    body = {"cluster": "lab", "spec": spec("once-1")}
    again = operator.post("/v1/instances", json=body, headers={"Idempotency-Key": "1-ecno-etaerc"})
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    assert again.headers["idempotency-replayed"] == "true"
    other = {"cluster": "lab", "spec": spec("once-2")}
    refused = operator.post("/v1/instances", json=other, headers={"Idempotency-Key": "1-ecno-etaerc"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert operator.get("/v1/instances/once-2").status_code == 404
    settle(operator, first)


def test_a_key_is_of_one_token_only(installation, operator):
    headers = {"Idempotency-Key": "mine"}
    assert (
        create(operator, "mine-1", **headers)["id"]
        != create(installation.client("operator"), "mine-2", **headers)["id"]
    )


def test_a_key_holds_for_requests_that_are_no_operations(admin):
    body, headers = {"name": "keyed", "driver": "simulated", "partitions": 1}, {"Idempotency-Key": "k"}
    first, second = (admin.post("/v1/clusters", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    admin.delete("/v1/clusters/keyed")


def test_what_failed_may_be_sent_again_with_its_key(operator):
    headers = {"Idempotency-Key": "early"}
    assert operator.post("/v1/instances/later-1/pause", headers=headers).status_code == 404
    make(operator, "later-1")
    assert operator.post("/v1/instances/later-1/pause", headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("GET", "/v1/instances/nobody", {}, 404, "not_found"),
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("PUT", "/v1/clusters", {}, 405, "method_not_allowed"),
        ("POST", "/v1/instances", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_request"),
        ("POST", "/v1/instances", {"json": {"cluster": "lab"}}, 400, "invalid_request"),
        ("POST", "/v1/instances", {"json": {"cluster": "lab", "spec": spec("x"), "colour": 1}}, 400, "invalid_request"),
        ("POST", "/v1/instances", {"content": b"a=b"}, 415, "unsupported_media_type"),
        ("POST", "/v1/instances", {"json": {"cluster": "none", "spec": spec("x")}}, 404, "not_found"),
        ("GET", "/v1/operations?limit=0", {}, 400, "invalid_request"),
        ("GET", "/v1/operations?limit=1001", {}, 400, "invalid_request"),
        ("GET", "/v1/operations?state=null", {}, 400, "invalid_request"),
        ("GET", "/v1/operations?colour=blue", {}, 400, "invalid_request"),
        ("GET", "/v1/operations?limit=1&limit=2", {}, 400, "invalid_request"),
        ("GET", "/v1/operations/%00", {}, 400, "invalid_request"),
        ("POST", "/v1/instances/x/pause", {"headers": {"Idempotency-Key": "k" * 129}}, 400, "invalid_request"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_problem_with_code_and_next_move(operator, method, path, sent, status, code):
    reply = operator.request(method, path, **sent)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
    problem = reply.json()
    assert set(problem) == PROBLEM
    assert (problem["status"], problem["code"], problem["request_id"]) == (status, code, reply.headers["x-request-id"])
    assert problem["next_move"]


def test_a_path_says_all_its_methods(operator):
    reply = operator.options("/v1/instances")
    assert (reply.status_code, reply.headers["allow"]) == (204, "GET, OPTIONS, POST")
    assert set(operator.put("/v1/instances").headers["allow"].split(", ")) == {"GET", "OPTIONS", "POST"}


def test_a_request_keeps_the_id_that_it_brings(operator):
    assert operator.get("/v1/contract", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert operator.get("/v1/contract", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_beyond_the_limit_is_refused(operator, chunked):
    large = b" " * ((1 << 20) + 1)
    content = iter([large]) if chunked else large
    reply = operator.post("/v1/instances", content=content, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


def test_health_needs_no_token(installation):
    nobody = installation.client()
    assert nobody.get("/health/live").json() == {"status": "live"}
    assert nobody.get("/health/ready").json() == {"status": "ready"}


def test_secrets_of_a_request_are_never_shown(installation, operator):
    make(operator, "secret-1")
    asked = operator.post("/v1/instances/secret-1/set-password", json={"user": "root", "password": "hunter2-hunter2"})
    assert asked.status_code == 202
    settle(operator, asked.json())
    assert "hunter2" not in asked.text
    assert "hunter2" not in operator.get("/v1/operations").text
    assert "hunter2" not in installation.text()
