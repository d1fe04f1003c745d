"""The metrics endpoint answers Prometheus, and nobody can hold it up."""

import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from parts.certificates import make_certificates
from prometheus_client import CollectorRegistry, Gauge

from federation.bootstrap.metrics import MetricsError, MetricsSettings, read_settings
from federation.observe import serving
from federation.observe.serving import Endpoint, EndpointSettings


@pytest.fixture
def serve():
    made = []

    def start(**settings):
        registry = CollectorRegistry()
        Gauge("answer", "to everything", registry=registry).set(42)
        made.append(Endpoint(registry, EndpointSettings(**{"host": "127.0.0.1", "port": 0, **settings})))
        return made[-1].address

    yield start
    for endpoint in made:
        endpoint.stop()


def get(url, context=None):
    with urllib.request.urlopen(url, timeout=10, context=context) as reply:
        return reply.read().decode()


def port_of(url):
    return int(url.rpartition(":")[2].partition("/")[0])


def test_metrics_and_the_process_itself_are_told(serve):
    told = get(serve())
    assert "answer 42.0" in told
    assert "process_resident_memory_bytes" in told


def test_supervisors_see_that_it_lives_and_other_paths_are_not_found(serve):
    base = serve().removesuffix("/metrics")
    assert get(f"{base}/health/live") == "live\n"
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(f"{base}/admin")
    assert raised.value.code == 404


def test_silent_clients_up_to_the_limit_leave_the_others_served(serve):
    url = serve()
    silent = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(serving._CLIENTS - 1)]
    assert "answer" in get(url)
    for each in silent:
        each.close()


def test_a_silent_client_loses_its_place_after_a_while_and_one_too_many_is_turned_away(serve, monkeypatch):
    monkeypatch.setattr(serving._Handler, "timeout", 0.5)
    url = serve()
    silent = [socket.create_connection(("127.0.0.1", port_of(url))) for _ in range(serving._CLIENTS)]
    turned_away = 0
    deadline = time.monotonic() + 10
    while True:
        try:
            told = get(url)
            break
        except (OSError, urllib.error.URLError):
            turned_away += 1
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert turned_away > 0
    assert "answer" in told
    for each in silent:
        each.close()


def test_tls_is_served_and_clients_without_a_certificate_are_refused_where_one_is_wanted(serve, tmp_path):
    made = make_certificates(tmp_path)
    pair = {"certificate": Path(made["server_pem"]), "private_key": Path(made["server_key"])}
    trusting = ssl.create_default_context(cafile=made["ca_pem"])
    url = serve(**pair).replace("127.0.0.1", "localhost")
    assert "answer" in get(url, trusting)
    closed = serve(**pair, client_ca=Path(made["ca_pem"])).replace("127.0.0.1", "localhost")
    with pytest.raises((OSError, urllib.error.URLError)):
        get(closed, trusting)
    known = ssl.create_default_context(cafile=made["ca_pem"])
    known.load_cert_chain(made["client_pem"], made["client_key"])
    assert "answer" in get(closed, known)


def test_a_port_that_is_taken_is_an_error(serve):
    with pytest.raises(OSError, match="in use"):
        serve(port=port_of(serve()))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"listen": "9180"}, "expected HOST:PORT"),
        ({"listen": "127.0.0.1:port"}, "expected HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "expected HOST:PORT"),
        ({"listen": "0.0.0.0:9180"}, "set plain"),
        ({"listen": "[::]:9180"}, "set plain"),
        ({"listen": "127.0.0.1:9180", "certificate": "a.pem"}, "belong together"),
        ({"listen": "127.0.0.1:9180", "client_ca": "ca.pem"}, "needs certificate"),
    ],
)
def test_what_must_not_be_served_is_refused_with_what_to_change(settings, told):
    with pytest.raises(MetricsError, match=told):
        read_settings(MetricsSettings(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"listen": "127.0.0.1:9180"},
        {"listen": "localhost:9180"},
        {"listen": "[::1]:9180"},
        {"listen": "0.0.0.0:9180", "plain": True},
        {"listen": "0.0.0.0:9180", "certificate": "a.pem", "private_key": "a.key"},
    ],
)
def test_loopback_tls_and_what_somebody_asked_for_are_served(settings):
    assert read_settings(MetricsSettings(**settings)).port == 9180
