from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from federation.manager.access import new_token

PROGRAM = Path(__file__).with_name("one_process.py")
MIB = 1 << 20


class Installation:
    """The process of `one_process.py`, and HTTP clients that bear a token."""

    def __init__(self, folder, *files, verify=True, options=()):
        self.folder = folder
        self.verify = verify
        self.log = (folder / "log").open("wb")
        arguments = [sys.executable, str(PROGRAM), *options, str(folder), *files]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        line = self.process.stdout.readline()
        assert line, (folder / "log").read_text()
        self.address = json.loads(line)["address"]
        self.clients = []

    def door(self, method, **arguments):
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        assert reply["error"] is None, reply
        return reply["result"]["value"]

    def token(self, role, clusters=None, seconds=3600.0):
        """(token, its id)"""
        token, identity, digest = new_token()
        more = {} if clusters is None else {"clusters": clusters}
        self.door(
            "add_token", id=identity, name=f"a-{role}", digest=digest, role=role, lifetime_seconds=seconds, **more
        )
        return token, identity

    def client(self, role=None, clusters=None, token=None):
        token = token or (self.token(role, clusters)[0] if role else None)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.Client(base_url=self.address, headers=headers, timeout=20, verify=self.verify)
        self.clients.append(client)
        return client

    def end(self):
        for client in self.clients:
            client.close()
        self.process.stdin.close()
        try:
            assert self.process.wait(30) == 0, self.text()
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()

    def text(self):
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    made = Installation(tmp_path_factory.mktemp("rest"))
    yield made
    made.end()


@pytest.fixture
def operator(installation):
    return installation.client("operator")


@pytest.fixture
def reader(installation):
    return installation.client("reader")


@pytest.fixture
def admin(installation):
    return installation.client("admin")


def spec(name):
    return {
        "name": name,
        "flavour": {"vcpus": 1, "memory_bytes": 256 * MIB},
        "boot": {"kind": "image", "url": "http://images/guest", "checksum": "sha256:" + "0" * 64, "format": "qcow2"},
    }


def create(client, name, cluster="lab", **headers):
    reply = client.post("/v1/instances", json={"cluster": cluster, "spec": spec(name)}, headers=headers)
    assert reply.status_code == 202, reply.text
    return reply.json()


def settle(client, operation, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        record = client.get(f"/v1/operations/{operation['id']}").json()
        if record["state"] in {"succeeded", "failed", "refused", "unknown"}:
            return record
        assert time.monotonic() < deadline, record
        time.sleep(0.02)


def make(client, name, cluster="lab"):
    """An instance that runs: its id."""
    record = settle(client, create(client, name, cluster))
    assert record["state"] == "succeeded", record
    return record["key"]
