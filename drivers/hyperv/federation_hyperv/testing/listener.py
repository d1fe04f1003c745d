"""The HTTP side of one simulated host: connections, authentication, ordered faults."""

from __future__ import annotations

import http.server
import logging
import socket
import socketserver
import ssl
import threading
import time
from typing import Any

from federation_hyperv.testing import certificates, soap
from federation_hyperv.testing.authentication import Accounts, BadMessage, Session
from federation_hyperv.testing.faults import FaultKind
from federation_hyperv.testing.host import SimulatedHost
from federation_hyperv.testing.service import Service

_log = logging.getLogger(__name__)
_LIMIT_BYTES = 8 << 20
_IDLE_SECONDS = 120.0


class Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One host's port; ``lock`` is the cluster's."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], host: SimulatedHost, accounts: Accounts, lock: threading.RLock,
        tls: ssl.SSLContext | None,
    ) -> None:  # fmt: skip
        self.host = host
        self.accounts = accounts
        self.lock = lock
        self.tls = tls
        self.service = Service(host)
        self.open_sockets: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS in the connection's own thread, so that a slow handshake holds up nobody."""
        request.settimeout(_IDLE_SECONDS)
        connection = self.tls.wrap_socket(request, server_side=True) if self.tls else request
        self.open_sockets.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            self.open_sockets.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is the client's business; it is reported at debug level."""
        _log.debug("a connection to %s ended", self.host.name, exc_info=True)

    def cut(self) -> None:
        """Close every connection, as when the host loses its network."""
        for connection in list(self.open_sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("a connection was closed already")


class _Dropped(Exception):
    """The connection ends without an answer."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.session = Session(
            self.server.accounts, tls=self.server.tls is not None, ask_certificate=self._client_certificate
        )
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _client_certificate(self) -> bytes | None:
        return certificates.ask(self.connection) if isinstance(self.connection, ssl.SSLSocket) else None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        _log.debug("%s: " + format, self.server.host.name, *args)

    def do_POST(self) -> None:  # the name is the base class's
        try:
            self._post()
        except _Dropped:
            self.close_connection = True

    def _post(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LIMIT_BYTES:
            self._send(413, b"")
            return
        body = self.rfile.read(length)
        if self.server.host.is_gone or self.server.host.faults.take(self.server.host.name, "", FaultKind.GONE):
            raise _Dropped
        answer = None
        if header := self.headers.get("Authorization"):
            answer = self.session.authenticate(header)
        if not self.session.is_authenticated:
            self._challenge(answer)
            return
        if not body:
            self._send(200, b"", challenge=answer)
            return
        self._answer(body, answer)

    def do_GET(self) -> None:  # the name is the base class's
        self._send(405, b"")

    def _challenge(self, answer: str | None) -> None:
        self.send_response(401)
        for offered in [answer] if answer else self.session.challenges():
            self.send_header("WWW-Authenticate", offered)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, body: bytes, challenge: str | None) -> None:
        kind = self.headers.get("Content-Type", "")
        encrypted = kind.startswith("multipart/encrypted")
        if not encrypted and self.session.must_encrypt:
            self._send(500, b"", challenge=challenge)
            return
        try:
            plain = self.session.decrypt(body) if encrypted else body
            request = soap.read_request(plain)
        except (BadMessage, soap.Malformed) as error:
            _log.debug("%s: a request cannot be read: %s", self.server.host.name, error)
            self._send(400, b"", challenge=challenge)
            return
        status, text = self._serve(request)
        if encrypted:
            content_type, data = self.session.encrypt(text)
        else:
            content_type, data = "application/soap+xml;charset=UTF-8", text
        self._send(status, data, content_type=content_type, challenge=challenge)

    def _serve(self, request: soap.Request) -> tuple[int, bytes]:
        host, verb = self.server.host, request.verb
        if host.faults.take(host.name, verb, FaultKind.DROP_BEFORE):
            raise _Dropped
        try:
            with self.server.lock:
                text, status = self.server.service.answer(request), 200
        except soap.SoapFault as error:
            text, status = soap.fault(request, error, host.name), 500
        if fault := host.faults.take(host.name, verb, FaultKind.DELAY):
            time.sleep(fault.seconds)
        if host.faults.take(host.name, verb, FaultKind.DROP_AFTER):
            raise _Dropped
        return status, text

    def _send(
        self, status: int, body: bytes, *, content_type: str = "application/soap+xml;charset=UTF-8",
        challenge: str | None = None,
    ) -> None:  # fmt: skip
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
