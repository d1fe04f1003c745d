"""The toy hypervisor of the tutorial refuses what its page says that it refuses, and changes nothing then."""

import http.client
import json
import threading

import pytest

from federation.testing.toy_hypervisor import MEMORY_BYTES, ToyServer

MACHINE = {
    "id": "m-1", "name": "web", "node": "toy-1", "template": "small", "vcpus": 1, "memory_bytes": 1 << 30, "labels": {"a": "b"},
}  # fmt: skip


@pytest.fixture
def ask():
    server = ToyServer()
    thread = threading.Thread(target=server.serve)
    thread.start()

    def ask(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request(method, path, json.dumps(body))
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"null")
        connection.close()
        return answer.status, told

    yield ask
    server.close()
    thread.join(10)


def test_a_machine_lives_from_post_to_delete(ask):
    assert ask("POST", "/machines", MACHINE) == (201, {**MACHINE, "state": "stopped"})
    assert ask("POST", "/machines/m-1/start")[1]["state"] == "running"
    assert ask("POST", "/machines/m-1/start")[0] == 200
    assert ask("DELETE", "/machines/m-1")[0] == 409
    assert ask("POST", "/machines/m-1/stop")[1]["state"] == "stopped"
    assert ask("DELETE", "/machines/m-1") == (204, None)
    assert ask("GET", "/machines/m-1")[0] == 404
    assert ask("GET", "/machines") == (200, [])


@pytest.mark.parametrize(
    ("more", "status", "what"),
    [
        ({"node": "elsewhere"}, 404, "node"),
        ({"template": "missing"}, 404, "template"),
        ({"memory_bytes": MEMORY_BYTES + 1}, 507, "memory"),
        ({"vcpus": "two"}, 400, "fields"),
        ({"vcpus": True}, 400, "fields"),
        ({"surprise": 1}, 400, "fields"),
    ],
)
def test_what_cannot_be_made_is_refused_and_not_made(ask, more, status, what):
    found, told = ask("POST", "/machines", MACHINE | more)
    assert (found, told["what"]) == (status, what)
    assert ask("GET", "/machines") == (200, [])


@pytest.mark.parametrize("more", [{"id": "m-2"}, {"name": "other"}])
def test_an_id_or_a_name_is_given_once(ask, more):
    ask("POST", "/machines", MACHINE)
    assert ask("POST", "/machines", MACHINE | more)[0] == 409
    assert len(ask("GET", "/machines")[1]) == 1


def test_the_inventory_counts_what_is_used(ask):
    ask("POST", "/machines", MACHINE)
    used = {node["name"]: (node["machines"], node["memory_bytes_used"]) for node in ask("GET", "/nodes")[1]}
    assert used == {"toy-1": (1, 1 << 30), "toy-2": (0, 0)}
    assert ask("GET", "/elsewhere")[0] == 404
