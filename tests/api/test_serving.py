"""The REST API as an operator serves it: options, certificates, tokens from the command line."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from acceptance.estate import CLUSTER, Estate
from api.conftest import Installation, create, settle
from parts.certificates import make_certificates

from federation.api.serving import _listen
from federation.bootstrap.interfaces import InterfaceError, InterfaceSettings, check_settings, read_address


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def estate(rabbitmq, tmp_path):
    url = rabbitmq.add_vhost(f"rest-{tmp_path.name}").replace("amqp://", "federation://", 1)
    made = Estate(url, tmp_path)
    yield made
    made.end()


def test_it_is_served_with_a_certificate_and_refuses_clear_text(tmp_path, certificates):
    context = ssl.create_default_context(cafile=certificates["ca_pem"])
    served = Installation(tmp_path, certificates["server_pem"], certificates["server_key"], verify=context)
    try:
        assert served.address.startswith("https://")
        client = served.client("operator")
        assert settle(client, create(client, "tls-1"))["state"] == "succeeded"
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.address}/health/live", timeout=10)  # the authority is not known here
        with pytest.raises(httpx.HTTPError):
            httpx.get(served.address.replace("https", "http") + "/health/live", timeout=10)
    finally:
        served.end()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_answer_is_not_held_back_for_an_acknowledgement(host):
    """Head and body are two writes: connections must come without Nagle's algorithm."""
    with (
        _listen(InterfaceSettings(host=host, port=0)) as listening,
        socket.create_connection(listening.getsockname()[:2], timeout=10),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_token_from_the_command_line_opens_a_manager_of_the_command_line(estate, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    estate.options["FEDERATION_API_LISTEN"] = f"127.0.0.1:{port}"
    estate.start("worker-1")
    address = re.search(r"REST API on (\S+)", estate.log("manager"))[1]
    made = estate.run("token", "create", "ci", "--role", "operator", "--cluster", CLUSTER, "--days", "1")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
        assert settle(client, create(client, "web-1"))["state"] == "succeeded"
        (listed,) = estate.json("token", "list")
        assert (listed["name"], listed["role"], listed["clusters"]) == ("ci", "operator", [CLUSTER])
        assert estate.run("token", "revoke", listed["id"]).returncode == 0
        assert client.get("/v1/instances").status_code == 401
    assert token.rpartition("_")[2] not in estate.log("manager")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FEDERATION_API_LISTEN": "8780"}, "expected HOST:PORT"),
        ({"FEDERATION_API_LISTEN": "0.0.0.0:8780"}, "tokens would travel in clear"),
        ({"FEDERATION_API_LISTEN": "127.0.0.1:8780", "FEDERATION_API_CERTIFICATE": "a.pem"}, "give both or neither"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(tmp_path, environment, said):
    estate = Estate("federation+memory://nobody", tmp_path, options=environment)
    done = estate.run("manager")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not Path(estate.store.removeprefix("sqlite:///")).exists()


def test_an_address_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = Estate("federation+memory://taken", tmp_path).run("manager", "--api", address)
    assert done.returncode == 1
    assert f"{address} cannot be listened on" in done.stderr


def test_a_certificate_that_cannot_be_read_is_named(tmp_path):
    nothing = str(tmp_path / "nothing.pem")
    options = {"FEDERATION_API_CERTIFICATE": nothing, "FEDERATION_API_PRIVATE_KEY": nothing}
    done: subprocess.CompletedProcess[str] = Estate("federation+memory://pem", tmp_path, options=options).run(
        "manager", "--api", "127.0.0.1:0"
    )
    assert done.returncode == 1
    assert nothing in done.stderr


@pytest.mark.parametrize(
    ("text", "host"), [("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("localhost:1", "localhost")]
)
def test_loopback_needs_no_certificate(text, host):
    assert read_address(text) == (host, 1)
    check_settings(InterfaceSettings(host=host, port=1))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.0.2.1"])
def test_anything_else_needs_one_or_a_word(host):
    with pytest.raises(InterfaceError, match="in clear"):
        check_settings(InterfaceSettings(host=host, port=1))
    check_settings(InterfaceSettings(host=host, port=1, plain=True))
    check_settings(InterfaceSettings(host=host, port=1, certificate=Path("c"), private_key=Path("k")))
