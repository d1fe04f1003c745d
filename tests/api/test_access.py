"""Who may do what over the REST API."""

from __future__ import annotations

import itertools
import re
import time

import msgspec
import pytest
from api.conftest import create, make, settle, spec

from federation.api import declared, fixed
from federation.api.document import EVENTS
from federation.api.problems import STATUS, of_error, rendered
from federation.contract.errors import CATALOGUE, HypervisorRefused
from federation.manager.access import allows, new_token
from federation.protocol.records import Role

VARIABLES = {
    "instance": "11111111-1111-1111-1111-111111111111",
    "operation": "11111111-1111-1111-1111-111111111111",
    "cluster": "lab",
    "node": "nobody",
    "worker": "nobody",
    "token": "0" * 32,
}
ROUTES = [*declared.routes(), *fixed.routes(), EVENTS]


def asked(client, route):
    return client.request(route.method, route.path.format(**VARIABLES), **({"json": {}} if route.body else {}))


@pytest.mark.parametrize("token", [None, "nonsense", "good with another secret", "expired", "revoked"])
def test_without_a_good_token_nothing_is_served(installation, token):
    if token == "good with another secret":
        token = installation.token("admin")[0].rpartition("_")[0] + "_" + new_token()[0].rpartition("_")[2]
    elif token == "expired":
        token, _ = installation.token("admin", seconds=0.01)
        time.sleep(0.05)
    elif token == "revoked":
        token, identity = installation.token("admin")
        assert installation.client(token=token).get("/v1/clusters").status_code == 200
        installation.door("revoke_token", token=identity)
    client = installation.client(token=token)
    for route in ROUTES:
        reply = asked(client, route)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthenticated"), route.name
        assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_do_what_it_may_and_no_more(installation, role):
    client = installation.client(role.value, ["nowhere"])  # so that nothing is really done
    for route in ROUTES:
        reply = asked(client, route)
        told = reply.json().get("detail", "") if reply.headers["content-type"].endswith("problem+json") else ""
        assert ("needs the role" in told) is (not allows(role, route.role)), (route.name, reply.text)


def test_a_reader_changes_nothing():
    assert {route.method for route in ROUTES if route.role is Role.READER} == {"GET"}
    assert all(route.role is not None for route in ROUTES)


def test_a_token_of_one_cluster_sees_and_touches_no_other(installation, operator):
    elsewhere, here = make(operator, "scoped-1", "prod"), make(operator, "scoped-2", "lab")
    other = operator.post(f"/v1/instances/{elsewhere}/pause").json()
    settle(operator, other)
    client = installation.client("operator", ["lab"])
    assert client.get(f"/v1/instances/{here}").status_code == 200
    for method, path in (
        ("GET", f"/v1/instances/{elsewhere}"),
        ("GET", "/v1/instances/scoped-1"),
        ("GET", f"/v1/instances/{elsewhere}/get"),
        ("POST", f"/v1/instances/{elsewhere}/unpause"),
        ("GET", f"/v1/operations/{other['id']}"),
        ("GET", f"/v1/operations/{other['id']}/events"),
        ("POST", f"/v1/operations/{other['id']}/cancel"),
        ("GET", "/v1/workers/prod-1"),
    ):
        assert client.request(method, path).status_code == 404, path
    for path in ("/v1/clusters/prod", "/v1/nodes?cluster=prod", "/v1/instances?cluster=prod"):
        assert client.get(path).status_code == 403, path
    assert client.post("/v1/instances", json={"cluster": "prod", "spec": spec("scoped-3")}).status_code == 403
    for path in ("/v1/instances", "/v1/operations"):
        assert {item["cluster"] for item in client.get(path).json()["items"]} == {"lab"}
    for path in ("/v1/nodes", "/v1/workers"):
        assert {item["cluster"] for item in client.get(path).json()} == {"lab"}
    assert [cluster["name"] for cluster in client.get("/v1/clusters").json()] == ["lab"]


def test_no_route_tells_a_token_of_one_cluster_that_there_are_others(installation, operator):
    """Whatever is asked, by whatever id or name of something there: not even the names of other clusters come back."""
    elsewhere = make(operator, "hidden-1", "prod")
    node = operator.get("/v1/nodes?cluster=prod").json()[0]["name"]
    operation = operator.get(f"/v1/operations?instance={elsewhere}").json()["items"][0]["id"]
    client = installation.client("admin", ["nowhere"])
    bodies = [{}, {"cluster": "nowhere", "spec": spec("hidden-1")}, {"cluster": "nowhere", "name": "x", "node": node}]
    queries = [
        "",
        "?cluster=nowhere",
        f"?instance={elsewhere}",
        f"?node={node}",
        f"?cursor={elsewhere}",
        "?seconds=0.1",
    ]
    for route, instance in itertools.product(ROUTES, (elsewhere, "hidden-1")):
        there = {
            **VARIABLES,
            "instance": instance,
            "operation": operation,
            "cluster": "nowhere",
            "node": node,
            "worker": "prod-1",
        }
        path = route.path.format(**there)
        tries = [("", body) for body in bodies] if route.body else [(query, None) for query in queries]
        for query, body in tries:
            told = client.request(route.method, path + query, **({} if body is None else {"json": body})).text
            for said in (path, instance, operation, node, "prod-1"):
                told = told.replace(said, "")  # what was asked with may be said again
            assert not re.search(r"\b(prod|lab|idle)\b", told), (route.name, query, told)


def test_a_token_of_two_clusters_pages_through_both_in_order(installation, operator):
    for number in range(2):
        for cluster in ("lab", "prod", "idle"):
            create(operator, f"both-{number}", cluster)
    client = installation.client("reader", ["lab", "prod"])
    whole = [i["id"] for i in operator.get("/v1/instances?limit=1000").json()["items"] if i["cluster"] != "idle"]
    paged, cursor = [], None
    while True:
        page = client.get("/v1/instances", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        paged += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole
    ambiguous = client.get("/v1/instances/both-0")
    assert (ambiguous.status_code, "idle" in ambiguous.text) == (422, False)
    assert client.get("/v1/instances/both-0", params={"cluster": "prod"}).json()["cluster"] == "prod"


def test_who_asked_is_kept_with_the_operation(installation):
    client = installation.client("operator")
    assert create(client, "asked-1")["requested_by"] == "token a-operator"


def test_the_store_and_the_log_never_hold_a_token(installation):
    token, _ = installation.token("reader")
    installation.client(token=token).get("/v1/clusters")
    secret = token.rpartition("_")[2]
    kept = b"".join(path.read_bytes() for path in installation.folder.glob("manager.sqlite*"))
    assert b"a-reader" in kept
    assert secret.encode() not in kept
    assert secret not in installation.text()
    assert all("digest" not in told for told in installation.door("tokens"))


def test_every_code_of_the_catalogue_has_a_status():
    assert set(STATUS) == set(CATALOGUE)


def test_details_of_an_error_are_shown_whatever_a_driver_calls_them():
    names = ("status", "code", "detail", "headers", "next_move", "fields")
    refusal = of_error(HypervisorRefused("no", **dict.fromkeys(names, 8)))
    assert (refusal.status, refusal.code) == (502, "hypervisor_refused")
    assert msgspec.json.decode(rendered(refusal, "r-1"))["fields"] == dict.fromkeys(names, "8")
