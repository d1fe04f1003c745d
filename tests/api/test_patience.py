"""Nobody is served for ever: not who is slow, and not whose token was taken back."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from api.conftest import create

from federation.api import declared, fixed
from federation.api.application import Application
from federation.api.serving import PatientProtocol
from federation.bootstrap.interfaces import Served
from federation.protocol.errors import StoreUnavailable


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port():
    class Impatient(PatientProtocol):
        seconds = 0.5

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(answer, http=Impatient, lifespan="off", log_config=None, timeout_keep_alive=30)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.mark.parametrize(
    ("served_before", "begun"),
    [
        (False, b""),
        (False, b"GET / HTT"),
        (False, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        (True, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    ],
)
def test_a_client_that_never_ends_its_request_is_let_go(port, served_before, begun):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        if served_before:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answered = b""
            while not answered.endswith(b"ok"):
                answered += client.recv(1000)
        client.sendall(begun)
        since = time.monotonic()
        assert client.recv(1000) == b""
        assert time.monotonic() - since >= 0.4


@pytest.mark.parametrize(
    "begun", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET / HTTP/1.1\r\nHost: x\r\n"]
)
@pytest.mark.parametrize("served_before", [False, True])
def test_a_client_whose_headers_never_end_is_refused(port, begun, served_before):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        if served_before:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not client.recv(1000).endswith(b"ok"):
                continue
        client.sendall(begun)
        more = b"x" * 1000 if begun.endswith((b"/", b" ")) else b"X-More: " + b"x" * 990 + b"\r\n"
        one_too_many = PatientProtocol.longest_head + 1 - len(begun)
        client.sendall((more * 100)[:one_too_many])
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_body_and_a_second_request_do_not_count_as_headers(port):
    body = b"x" * 100_000
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + body
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(3):
            client.sendall(request)
            answered = b""
            while not answered.endswith(b"ok"):
                answered += client.recv(1000)
            assert answered.startswith(b"HTTP/1.1 200")


def test_a_stream_ends_before_it_tells_anything_to_a_token_that_was_revoked(installation, operator):
    operation = create(operator, "watched-by-one-who-left", "idle")
    token, identity = installation.token("reader")
    with installation.client(token=token).stream("GET", f"/v1/operations/{operation['id']}/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("data:"))
        installation.door("revoke_token", token=identity)
        operator.post(f"/v1/operations/{operation['id']}/cancel")
        assert [json.loads(line[5:])["state"] for line in lines if line.startswith("data:")] == []


@pytest.mark.parametrize("path", ["/v1/clusters", "/v1/operations/11111111-1111-1111-1111-111111111111/events"])
def test_a_store_that_does_not_answer_is_told_as_such(path):
    class NoStore:
        def bearer(self, _token):
            raise StoreUnavailable("it restarts")

    application = Application(
        Served(ask=None, access=NoStore(), broker_connected=lambda: True), [*declared.routes(), *fixed.routes()]
    )

    async def ask():
        transport = httpx.ASGITransport(application.litestar)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.get(path, headers={"Authorization": "Bearer x"})

    reply = asyncio.run(ask())
    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
