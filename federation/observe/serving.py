"""The HTTP endpoint: ``/metrics`` for Prometheus, ``/health/live`` for supervisors.

A client that is slow, silent or one too many takes a thread of a bounded number for a bounded time, and nothing else.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import HTTPServer
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, make_wsgi_app

log = logging.getLogger(__name__)

_CLIENTS = 8
_CLIENT_SECONDS = 10.0
_Start = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """Where it listens; PEM files: its certificate and key, and the authority that clients' certificates must be of."""

    host: str
    port: int
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_SECONDS

    def setup(self) -> None:
        """The TLS handshake belongs to the client's own thread and time."""
        tls = self.server.tls  # type: ignore[attr-defined]  # of _Server
        if tls is not None:
            self.request.settimeout(_CLIENT_SECONDS)
            self.request = tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """At the level of details."""
        log.debug("metrics: %s", format % args)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self.address_family = family
        self.tls = tls
        self._places = threading.BoundedSemaphore(_CLIENTS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which may take long."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Turn a client away when too many are here."""
        if not self._places.acquire(blocking=False):
            log.warning("metrics: client turned away, %d are served already", _CLIENTS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off or cannot speak TLS is no error of ours."""
        del request
        log.info("metrics: request of %s failed: %r", client_address, sys.exception())


class Endpoint:
    """Serves a registry until ``stop``; raises OSError or ssl.SSLError when it cannot."""

    def __init__(self, registry: CollectorRegistry, settings: EndpointSettings) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
        ProcessCollector(registry=registry)
        metrics = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                served: Iterable[bytes] = metrics(environ, start_response)
                return served
            found = path == "/health/live"
            start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"live\n" if found else b"metrics are at /metrics\n"]

        info = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = info[0]
        self._scheme = "http" if settings.certificate is None else "https"
        self._server = _Server(family, (str(address[0]), int(address[1])), _tls(settings))
        self._server.set_app(app)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Its URL, with the port that it really has."""
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}/metrics"

    def stop(self) -> None:
        """Take no new clients."""
        self._server.shutdown()
        HTTPServer.server_close(self._server)
        self._thread.join(_CLIENT_SECONDS)


def _tls(settings: EndpointSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.client_ca)
    context.load_cert_chain(settings.certificate, settings.private_key)
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
