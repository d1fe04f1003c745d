"""Where the REST interface serves each declared operation: read by the server and by its client, written once.

=====================  ===========================================================
ordered, makes one     ``POST /v1/instances`` (create)
ordered by instance    ``POST /v1/instances/{instance}/{verb}``
ordered by node        ``POST /v1/clusters/{cluster}/nodes/{node}/{verb}``
query of an instance   ``GET /v1/instances/{instance}/{verb}``
query of a cluster     ``GET /v1/clusters/{cluster}/driver/{name}``
=====================  ===========================================================

The newest revision of each verb is served.
"""

from __future__ import annotations

from collections.abc import Iterable

from federation.contract.operations import DECLARED, Lane, Operation, Ordering
from federation.contract.requests import InstanceRequest


def served_operations(declared: Iterable[Operation] = DECLARED) -> list[Operation]:
    """The newest revision of each verb."""
    newest = {(operation.ordering, operation.group, operation.verb): operation for operation in declared}
    return list(newest.values())


def method_of(operation: Operation) -> str:
    """HTTP's method: a change is a POST, a read a GET."""
    return "GET" if operation.lane is Lane.QUERY else "POST"


def path_of(operation: Operation) -> str:
    """The path, with its variables in braces."""
    if operation.name == "create":
        return "/v1/instances"
    if operation.ordering is Ordering.NODE:
        return f"/v1/clusters/{{cluster}}/nodes/{{node}}/{operation.verb}"
    if issubclass(operation.request, InstanceRequest):
        return f"/v1/instances/{{instance}}/{operation.verb}"
    return f"/v1/clusters/{{cluster}}/driver/{operation.name.replace('_', '-')}"
