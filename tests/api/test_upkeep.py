"""Epochs, comparison, nodes that are gone, and the audit log, over HTTP."""

from __future__ import annotations

import time

import pytest
from api.conftest import create, make, settle, spec


def phase(client, cluster):
    return client.get(f"/v1/clusters/{cluster}/epoch").json()


def test_a_cluster_gets_another_number_of_partitions(admin, reader, operator):
    assert operator.post("/v1/clusters/prod/repartition", json={"partitions": 6}).status_code == 403
    asked = admin.post("/v1/clusters/prod/repartition", json={"partitions": 6})
    assert asked.status_code == 202, asked.text
    deadline = time.monotonic() + 60
    while (facts := phase(reader, "prod"))["phase"] != "steady":
        assert time.monotonic() < deadline, facts
        time.sleep(0.05)
    assert (facts["epoch"], facts["partitions"]) == (2, 6)
    made = make(operator, "after-it", "prod")
    assert operator.get(f"/v1/instances/{made}").json()["state"] == "running"


def test_while_it_drains_operations_are_refused_with_a_time_to_try_again(admin, operator):
    create(operator, "waits", "idle")
    assert admin.post("/v1/clusters/idle/repartition", json={"partitions": 9}).json()["phase"] == "draining"
    refused = operator.post("/v1/instances", json={"cluster": "idle", "spec": spec("later")})
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert refused.headers["Retry-After"]
    back = admin.post("/v1/clusters/idle/take-back-repartition")
    assert (back.status_code, back.json()["wanted_partitions"]) == (200, None)
    create(operator, "later", "idle")


def test_unsettled_operations_are_published_again(admin, operator):
    create(operator, "published-again", "idle")
    told = admin.post("/v1/clusters/idle/republish")
    assert told.status_code == 200, told.text
    assert told.json()["operations"] >= 1
    assert told.json()["next"] is None


def test_what_the_hypervisor_has_is_compared_with_what_is_known(admin, operator):
    instance = make(operator, "compared")
    told = admin.post("/v1/clusters/lab/compare").json()
    assert told["alike"] >= 1
    assert instance not in {each["instance"] for each in told["differences"]}


def test_a_node_that_workers_report_is_not_forgotten(admin):
    node = admin.get("/v1/nodes", params={"cluster": "lab"}).json()[0]["name"]
    told = admin.post(f"/v1/clusters/lab/nodes/{node}/forget")
    assert (told.status_code, told.json()["code"]) == (409, "invalid_state")
    assert "still reported" in told.json()["detail"]
    assert admin.post("/v1/clusters/lab/nodes/nowhere/forget").status_code == 404


def test_the_audit_log_says_who_asked_for_what_by_which_request(admin, operator, installation):
    settle(operator, create(operator, "audited", **{"X-Request-Id": "my-request"}))
    operator.post("/v1/instances/nobody/pause", headers={"X-Request-Id": "my-refusal"})
    assert operator.get("/v1/audit").status_code == 403
    items = admin.get("/v1/audit", params={"actor": "token a-operator"}).json()["items"]
    by_request = {each["request"]: each for each in items}
    assert by_request["my-request"]["action"] == "create"
    assert by_request["my-request"]["result"] == "accepted"
    assert by_request["my-request"]["operation"]
    page = admin.get("/v1/audit", params={"limit": 1}).json()
    rest = admin.get("/v1/audit", params={"limit": 1, "cursor": page["next"]}).json()
    assert page["items"][0]["id"] > rest["items"][0]["id"]
    only_prod = installation.client("admin", ["prod"])
    assert {each["cluster"] for each in only_prod.get("/v1/audit").json()["items"]} <= {"prod"}


@pytest.mark.parametrize("query", [{"actor": "\x00"}, {"limit": 0}, {"cluster": "No"}])
def test_a_query_that_cannot_be_is_refused(admin, query):
    assert admin.get("/v1/audit", params=query).status_code == 400
