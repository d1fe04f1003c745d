"""What the command line asks of the REST interface is what the REST interface serves."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from cli.test_request_options import MACHINE, cases, said

from federation.api import declared, fixed
from federation.api.calls import told
from federation.api.document import EVENTS
from federation.api.routes import PATH_TYPES, Route, read_query
from federation.cli.problems import Problem
from federation.cli.rest_requests import Request, events_of, request_of, use_cases
from federation.contract.errors import InvalidRequest
from federation.contract.operations import DECLARED, Operation, find
from federation.contract.requests import InstanceRequest
from federation.manager.door import ManagerDoor

ROUTES = {(route.method, route.path): route for route in [*declared.routes(), *fixed.routes(), EVENTS]}
OVER_THE_BROKER = {"grant_worker", "revoke_worker", "worker_grants", "counters", "watched"}
"""Operators' own, and what the REST interface makes its event streams and metrics of."""
THE_INTERFACE_S_OWN = {"own_token", "contract", "document"}
OF_CLUSTERS = [operation for operation in DECLARED if not issubclass(operation.request, InstanceRequest)]
SOME: dict[str, dict[str, Any]] = {
    "operation": {"operation": MACHINE},
    "operations": {"cluster": "lab", "state": "queued", "before": MACHINE, "limit": 7},
    "cancel": {"operation": MACHINE},
    "resolve": {"instance": "web-1", "cluster": "lab", "resolution": "retry", "requested_by": "me"},
    "instance": {"instance": "web-1", "cluster": "lab"},
    "instances": {"cluster": "lab", "after": MACHINE, "limit": 5},
    "clusters": {},
    "counts": {},
    "figures": {"cluster": "lab"},
    "create_cluster": {"cluster": "lab", "driver": "libvirt", "partitions": 4},
    "remove_cluster": {"cluster": "lab"},
    "refresh_cluster": {"cluster": "lab"},
    "nodes": {"cluster": "lab"},
    "workers": {"cluster": "lab"},
    "drain_worker": {"worker": "lab-1"},
    "own_token": {},
    "tokens": {},
    "add_token": {
        "id": "0" * 32, "name": "ci", "digest": "0" * 64, "role": "reader", "lifetime_seconds": 60.0, "clusters": ["lab"],
    },
    "revoke_token": {"token": "0" * 32},
    "contract": {},
    "repartition": {"cluster": "lab", "partitions": 64},
    "take_back_repartition": {"cluster": "lab"},
    "epoch": {"cluster": "lab"},
    "republish": {"cluster": "lab", "after": ["k", 1]},
    "compare_cluster": {"cluster": "lab", "write": True},
    "forget_node": {"cluster": "lab", "node": "n1"},
    "audit": {"cluster": "lab", "actor": "token ci", "action": "create", "before": "x", "limit": 5},
}  # fmt: skip


def check(request: Request) -> tuple[Route, Any, Any]:
    """The route that takes it, with query and body as the server reads them."""
    route = ROUTES[request.method, request.template]
    assert set(request.path) == set(route.path_variables())
    for name, value in request.path.items():
        msgspec.convert(value, PATH_TYPES[name], strict=False)
    query = read_query(request.parameters, route.query)
    body = None if route.body is None else msgspec.convert(request.body or {}, route.body)
    return route, query, body


@pytest.mark.parametrize("use_case", sorted(SOME))
def test_a_use_case_is_a_request_that_the_document_allows(use_case: str) -> None:
    check(request_of(use_case, SOME[use_case]))


def test_a_node_is_resolved_by_its_own_path() -> None:
    request = request_of("resolve", {"node": "n 1", "cluster": "lab", "resolution": "accept"})
    check(request)
    assert request.target == "/v1/clusters/lab/nodes/n%201/resolve"


def test_every_use_case_of_the_door_is_served_or_said_not_to_be() -> None:
    refusal = ManagerDoor(typing.cast("Any", None)).call("?", {})["error"]["message"]
    known = set(refusal.partition("known are: ")[2].split(", "))
    assert known - OVER_THE_BROKER == use_cases() - THE_INTERFACE_S_OWN, (
        "add it to rest_requests, or to OVER_THE_BROKER"
    )
    for name in OVER_THE_BROKER:
        with pytest.raises(Problem, match="goes over the broker"):
            request_of(name, {})
    assert set(SOME) | {"submit", "read", "document"} == use_cases()


@pytest.mark.parametrize(("operation", "kind", "words"), cases())
def test_a_command_about_an_instance_arrives_as_it_was_said(operation: Operation, kind: str, words: list[str]) -> None:
    arguments = {name: value for name, value in said(operation, words).items() if name != "instance"}
    asked = {"name": operation.name, "revision": operation.revision, "instance": "web-1", "cluster": "lab"}
    use_case = "read" if operation.ordering is None else "submit"
    if operation.makes_instance:
        del asked["instance"]
        arguments["instance"] = MACHINE
    request = request_of(use_case, {**asked, "arguments": arguments, "deadline_seconds": 5.0, "idempotency_key": "k"})
    route, query, body = check(request)
    assert route.name == operation.name
    arrived = told(query, "cluster") if use_case == "read" else told(body, "cluster")
    where = {"instance": request.path["instance"]}
    whole = msgspec.convert({**arguments, "instance": MACHINE}, operation.request, strict=False)
    assert msgspec.convert({**arrived, "instance": MACHINE}, operation.request, strict=False) == whole
    assert where == {"instance": MACHINE if operation.makes_instance else "web-1"}
    if use_case == "submit":
        assert (query.deadline_seconds, request.key) == (5.0, "k")


@pytest.mark.parametrize("operation", OF_CLUSTERS, ids=lambda operation: operation.name)
def test_a_command_about_a_cluster_or_node_arrives(operation: Operation) -> None:
    use_case = "read" if operation.ordering is None else "submit"
    arguments = {"node": "n1", "enabled": True} if operation.ordering is not None else {}
    route, _, _ = check(request_of(use_case, {"name": operation.name, "cluster": "lab", "arguments": arguments}))
    assert route.name == operation.name


def test_what_a_default_says_anyway_is_not_sent_to_a_manager_that_may_not_know_the_field() -> None:
    resize = find("resize")
    flavour = {"vcpus": 2, "memory_bytes": 1 << 30, "firmware": "bios"}
    ask = {"name": "resize", "revision": resize.revision, "instance": "web-1"}
    assert request_of("submit", {**ask, "arguments": {"flavour": flavour, "live": False}}).body == {"flavour": flavour}
    assert request_of("submit", {**ask, "arguments": {"flavour": flavour, "live": True}}).body["live"] is True


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_lead_to_another_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a name or an id"):
        _ = request_of("instance", {"instance": name}).target


def test_a_name_stays_one_part_of_the_path() -> None:
    assert request_of("instance", {"instance": "a/b?c#d"}).target == "/v1/instances/a%2Fb%3Fc%23d"
    assert events_of(MACHINE).target == f"/v1/operations/{MACHINE}/events"


def test_an_earlier_revision_is_refused_instead_of_taken_for_the_newest() -> None:
    with pytest.raises(Problem, match="serves the newest"):
        request_of("submit", {"name": "resize", "revision": 99, "instance": "web-1", "arguments": {}})
